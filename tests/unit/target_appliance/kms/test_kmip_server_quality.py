"""A server that does not do what the appliance relies on is never used."""

import pytest

from common.errors import KeyNotUsableError, KmsUnavailableError
from target_appliance.kms.port import KekState
from tests.fakes.kmip_server import Op, Rogue, Sloppy

DEK = bytes(range(32))


@pytest.fixture
def served(tmp_path, connect):
    opened = []

    def start(flaw):
        server = Sloppy(flaw)
        rogue = Rogue(tmp_path, server)
        opened.append(rogue)
        return connect(rogue.endpoint, ca_file=rogue.authority.certificate_file), server

    yield start
    for rogue in opened:
        rogue.__exit__()


@pytest.mark.parametrize("flaw", ["", "own-nonce", "refuses-QUERY"])
def test_a_proper_server_passes_and_is_tested_once(served, flaw):
    kms, server = served(flaw)
    kms.probe()
    kms.probe()
    assert server.asked.count(Op.QUERY) == 1
    assert server.keys == {}, "the trial key is removed"
    kek = kms.create_kek("acme")
    assert kms.unwrap(kms.wrap(kek, DEK, b"bound"), b"bound") == DEK


@pytest.mark.parametrize(
    ("flaw", "sentence"),
    [
        ("ignores-associated-data", "although the associated data was altered"),
        ("no-tag", "returns no tag of 16 bytes"),
        ("short-tag", "returns no tag of 16 bytes"),
        ("plaintext", "does not encrypt what it is given"),
        ("wrong-plaintext", "does not decrypt what it encrypted"),
        ("no-version", "does not speak KMIP 1.4"),
        ("few-operations", "does not offer ENCRYPT, DECRYPT"),
        ("refuses-CREATE", "does not make a key (PERMISSION_DENIED: this client may not CREATE)"),
        ("refuses-ENCRYPT", "does not encrypt under key 1 (PERMISSION_DENIED"),
        ("refuses-DECRYPT", "does not decrypt what it encrypted (PERMISSION_DENIED"),
        ("refuses-DISCOVER_VERSIONS", "does not speak KMIP 1.4 (PERMISSION_DENIED"),
    ],
)
def test_a_server_with_a_flaw_is_refused_every_time(served, flaw, sentence):
    kms, server = served(flaw)
    uses = [kms.probe, kms.probe]
    if "VERSIONS" not in flaw and flaw != "no-version":  # only the probe asks for versions
        uses += [lambda: kms.create_kek("acme"), lambda: kms.wrap("1", DEK, b"")]
    for use in uses:
        with pytest.raises(KmsUnavailableError) as refused:
            use()
        assert sentence in refused.value.message
        assert refused.value.next_step
    assert server.keys == {}, "no trial key is left"


def test_a_flawed_server_cannot_make_a_key_useless_for_ever(served):
    """What a server does wrong is the server's fault, and no verdict on the key."""
    kms, server = served("")
    kek = kms.create_kek("acme")
    wrapped = kms.wrap(kek, DEK, b"bound")
    server.keys[kek] = (bytes(32), server.keys[kek][1])
    with pytest.raises(KeyNotUsableError, match="was altered"):
        kms.unwrap(wrapped, b"bound")
    server._decrypt = lambda _payload: (_ for _ in ()).throw(PermissionError("not today"))
    with pytest.raises(KmsUnavailableError, match="not today"):
        kms.unwrap(wrapped, b"bound")


def test_a_server_that_keeps_the_trial_key_is_used_all_the_same(served, capfd):
    kms, server = served("no-destroy")
    kms.probe()
    assert len(server.keys) == 1
    told = "".join(capfd.readouterr())
    assert "kept the trial key" in told
    assert "keys are kept" in told


def test_a_state_that_is_not_told_is_no_state(served):
    kms, server = served("")
    kek = kms.create_kek("acme")
    assert kms.state(kek) is KekState.ACTIVE
    server.flaw = "stateless"
    with pytest.raises(KmsUnavailableError, match="names no state"):
        kms.state(kek)


def test_a_server_that_does_not_let_us_see_a_key_is_not_a_missing_key(served):
    kms, server = served("")
    kek = kms.create_kek("acme")
    server.flaw = "refuses-GET_ATTRIBUTES"
    with pytest.raises(KmsUnavailableError, match=f"does not tell the state of key {kek} .PERMISSION_DENIED"):
        kms.state(kek)


def test_a_server_that_keeps_a_key_is_not_believed_to_have_destroyed_it(served):
    kms, server = served("")
    kek = kms.create_kek("acme")
    server.flaw = "no-destroy"
    for state in ("active", "deactivated"):
        assert kms.state(kek) == state
        with pytest.raises(
            KmsUnavailableError, match=rf"did not destroy key {kek}, which is deactivated.*keys are kept"
        ):
            kms.destroy_kek(kek)
    server.flaw = ""
    kms.destroy_kek(kek)
    assert kms.state(kek) is KekState.ABSENT


def test_a_key_that_may_not_be_revoked_is_destroyed_if_the_server_lets_us(served):
    kms, server = served("")
    kek = kms.create_kek("acme")
    server.flaw = "refuses-REVOKE"
    kms.destroy_kek(kek)
    assert kms.state(kek) is KekState.ABSENT
