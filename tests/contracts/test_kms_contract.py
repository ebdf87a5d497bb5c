"""What every key server's driver must do, the wrappers included."""

import base64
import dataclasses
import logging
import os
import threading

import pytest

from common.errors import KeyNotUsableError
from target_appliance.kms.port import ALGORITHM, GONE, KekState
from tests.contracts.kms_worlds import WORLDS
from tests.lab.kmip import KmipSite
from tests.lab.openbao_site import OpenBaoSite

DEK = bytes(range(32))
BOUND_TO = b"keysapart/1/dek\0acme\0replica\0disk\0epoch"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with KmipSite(tmp_path_factory.mktemp("kmip")) as running:
        yield running


@pytest.fixture(scope="module")
def openbao(tmp_path_factory):
    with OpenBaoSite(tmp_path_factory.mktemp("openbao")) as running:
        yield running


@pytest.fixture(scope="module", params=WORLDS)
def world(request, tmp_path_factory):
    """One for all tests, as in an appliance; each test has a KEK of its own."""
    servers = {"kmip": "site", "transit": "openbao"}
    server = request.getfixturevalue(servers[request.param]) if request.param in servers else None
    made = WORLDS[request.param](server, tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


@pytest.fixture
def kms(world):
    return world.kms


@pytest.fixture
def kek(kms):
    return kms.create_kek("acme")


def test_a_new_kek_is_active_and_one_of_its_kind(kms, kek):
    other = kms.create_kek("acme")
    assert other != kek
    assert kms.state(kek) is kms.state(other) is KekState.ACTIVE


def test_what_is_wrapped_unwraps(kms, kek):
    wrapped = kms.wrap(kek, DEK, BOUND_TO)
    assert (wrapped.kek_id, wrapped.algorithm) == (kek, ALGORITHM)
    assert (len(wrapped.nonce), len(wrapped.ciphertext), len(wrapped.tag)) == (12, 32, 16)
    assert wrapped.ciphertext != DEK
    assert kms.unwrap(wrapped, BOUND_TO) == DEK


def test_the_same_dek_never_looks_the_same_twice(kms, kek):
    made = [kms.wrap(kek, DEK, BOUND_TO) for _ in range(20)]
    assert len({wrapped.nonce for wrapped in made}) == len({wrapped.ciphertext for wrapped in made}) == 20


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("part", ["nonce", "ciphertext", "tag"])
@pytest.mark.parametrize("bit", [0, 7, -1])
def test_an_altered_wrapped_key_is_refused(kms, kek, part, bit):
    wrapped = kms.wrap(kek, DEK, BOUND_TO)
    value = getattr(wrapped, part)
    altered = dataclasses.replace(wrapped, **{part: flipped(value, bit % (len(value) * 8))})
    with pytest.raises(KeyNotUsableError, match="was altered"):
        kms.unwrap(altered, BOUND_TO)


@pytest.mark.parametrize(
    "other", [b"", BOUND_TO + b"\0", BOUND_TO[:-1], BOUND_TO.replace(b"acme", b"acmf"), bytes(range(40))]
)
def test_a_wrapped_key_is_bound_to_its_associated_data(kms, kek, other):
    wrapped = kms.wrap(kek, DEK, BOUND_TO)
    with pytest.raises(KeyNotUsableError, match="was altered"):
        kms.unwrap(wrapped, other)


@pytest.mark.parametrize(
    "change",
    [
        {"tag": b""},
        {"tag": b"1234"},
        {"nonce": b""},
        {"nonce": b"12345678"},
        {"ciphertext": b""},
        {"algorithm": "AES-256-CBC"},
    ],
    ids=str,
)
def test_a_malformed_wrapped_key_is_refused(kms, kek, change):
    wrapped = dataclasses.replace(kms.wrap(kek, DEK, BOUND_TO), **change)
    with pytest.raises(KeyNotUsableError, match="was altered"):
        kms.unwrap(wrapped, BOUND_TO)


def test_one_keks_wrapped_key_does_not_open_under_another(kms, kek):
    wrapped = dataclasses.replace(kms.wrap(kek, DEK, BOUND_TO), kek_id=kms.create_kek("globex"))
    with pytest.raises(KeyNotUsableError, match="was altered"):
        kms.unwrap(wrapped, BOUND_TO)


def test_an_unknown_kek_is_absent_and_of_no_use(kms, kek):
    wrapped = dataclasses.replace(kms.wrap(kek, DEK, BOUND_TO), kek_id="987654321")
    assert kms.state("987654321") is KekState.ABSENT
    for use in (lambda: kms.wrap("987654321", DEK, BOUND_TO), lambda: kms.unwrap(wrapped, BOUND_TO)):
        with pytest.raises(KeyNotUsableError, match="does not exist at the KMS"):
            use()


@pytest.mark.parametrize("state", [KekState.DEACTIVATED, KekState.COMPROMISED, KekState.DESTROYED])
def test_a_kek_that_is_not_active_neither_wraps_nor_unwraps(world, kek, state):
    wrapped = world.kms.wrap(kek, DEK, BOUND_TO)
    world.retire(kek, state)
    assert world.kms.state(kek) in (GONE if state is KekState.DESTROYED else {world.called.get(state, state)})
    for use in (lambda: world.kms.wrap(kek, DEK, BOUND_TO), lambda: world.kms.unwrap(wrapped, BOUND_TO)):
        with pytest.raises(KeyNotUsableError) as refused:
            use()
        assert "at the KMS" in refused.value.message
        assert kek in refused.value.message


@pytest.mark.parametrize("before", [None, KekState.DEACTIVATED, KekState.COMPROMISED, KekState.DESTROYED])
def test_a_destroyed_kek_is_gone_for_good_and_takes_no_other_with_it(world, kek, before):
    other = world.kms.create_kek("globex")
    wrapped, safe = world.kms.wrap(kek, DEK, BOUND_TO), world.kms.wrap(other, DEK, BOUND_TO)
    if before is not None:
        world.retire(kek, before)
    for _ in range(2):  # asking again does no harm
        world.kms.destroy_kek(kek)
        assert world.kms.state(kek) in GONE
    for use in (lambda: world.kms.wrap(kek, DEK, BOUND_TO), lambda: world.kms.unwrap(wrapped, BOUND_TO)):
        with pytest.raises(KeyNotUsableError, match="at the KMS"):
            use()
    assert world.kms.unwrap(safe, BOUND_TO) == DEK


def test_destroying_what_never_was_is_no_error(kms):
    kms.destroy_kek("987654321")
    assert kms.state("987654321") is KekState.ABSENT


def test_many_threads_get_their_own_answers(kms, kek):
    wrong = []

    def work(number):
        dek = bytes([number]) * 32
        for turn in range(10):
            bound_to = f"{number}/{turn}".encode()
            if kms.unwrap(kms.wrap(kek, dek, bound_to), bound_to) != dek:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_of_a_key_reaches_logs_output_or_errors(kms, kek, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for name in ("kmip", "kmip.services.kmip_client", "kmip.services.kmip_protocol"):
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG) or "kmip" not in str(type(kms))
    dek = os.urandom(32)
    wrapped = kms.wrap(kek, dek, BOUND_TO)
    kms.unwrap(wrapped, BOUND_TO)
    with pytest.raises(KeyNotUsableError) as refused:
        kms.unwrap(wrapped, b"else")
    seen = caplog.text + "".join(capfd.readouterr()) + repr(refused.value) + str(refused.value.__cause__) + repr(kms)
    for form in (dek.hex(), dek.hex().upper(), base64.b64encode(dek).decode(), repr(dek), dek.decode("latin-1")):
        assert form not in seen
    assert "DEBUG" not in "".join(record.levelname for record in caplog.records if record.name.startswith("kmip"))


def test_probing_a_working_server_is_silent(kms):
    assert kms.probe() is None


def test_it_says_what_it_is_and_closes_twice(kms):
    assert kms.name
    kms.close()
    kms.close()
