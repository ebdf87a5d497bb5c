"""What a vCenter may refuse: each time one sentence that names it, and nothing left at the source."""

from collections.abc import Iterator

import pytest

from common.errors import EXIT_REFUSED, EXIT_TRY_LATER
from source_agent.privileges import HOTADD, needs
from source_agent.vsphere.port import Place
from tests.end_to_end.gate import Gate, gated
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import Pair, run
from tests.end_to_end.refusing import ended, sentence, syncing
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

VM = "web01"
NEEDED = needs(HOTADD, encrypted=True)
BEFOREHAND = {"AddNewDisk", "Resource", "Settings", "ChangeTracking"}
"""Privileges without which no call of a second sync fails."""
CLEANING = {"VirtualMachine.State.RemoveSnapshot", "VirtualMachine.Config.RemoveDisk"}
"""Without these nobody can clean up."""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A VM with a point, and its agent."""
    with (
        Lab(tmp_path_factory.mktemp("vcenter"), disk_mib=8) as lab,
        Pair(lab) as pair,
        Ledger(pair, VM) as made,
    ):
        made.sync()
        yield made


@pytest.fixture(autouse=True)
def all_allowed(ledger: Ledger) -> Iterator[None]:
    """Each test ends with a vCenter that behaves."""
    yield
    ledger.pair.lab.control("allow")
    ledger.pair.lab.control("clear-faults")


def entity(place: Place) -> str:
    named = {Place.VM: f"VM {VM}", Place.AGENT_VM: "VM agent-vm", Place.FOLDER: "folder", Place.DATASTORE: "datastore"}
    return named[place]


@pytest.mark.parametrize("need", NEEDED, ids=lambda need: need.privilege)
def test_a_privilege_that_lacks_is_named_before_anything_is_touched(ledger: Ledger, need) -> None:
    lab = ledger.pair.lab
    lab.control("deny", need.privilege, "--user", lab.vcenter.user)
    before = lab.control("calls")
    refused = ledger.pair.source("sync", VM)
    words = [need.privilege] if need.place is Place.FOLDER else [need.privilege, entity(need.place), need.purpose]
    sentence(refused, EXIT_REFUSED, *words)
    after = lab.control("calls")
    assert [method for method in after if method.endswith("_Task") and after[method] != before.get(method)] == []
    ledger.check_source()


@pytest.mark.parametrize(
    "need",
    [one for one in NEEDED if one.privilege not in CLEANING and one.privilege.split(".")[-1] not in BEFOREHAND],
    ids=lambda need: need.privilege,
)
def test_a_privilege_that_is_taken_away_later_leaves_nothing(ledger: Ledger, need) -> None:
    lab = ledger.pair.lab
    ledger.write()
    lab.control("deny", need.privilege, "--hidden")
    refused = ledger.pair.source("sync", VM)
    sentence(refused, EXIT_REFUSED, need.privilege)
    ledger.check_source()


@pytest.mark.parametrize("privilege", sorted(CLEANING))
def test_what_cannot_be_cleaned_up_without_the_right_to_is_told_and_goes_with_the_next_sync(
    ledger: Ledger, privilege: str
) -> None:
    lab = ledger.pair.lab
    ledger.write()
    content = ledger.content()
    lab.control("deny", privilege, "--hidden")
    outcome = ledger.pair.source("sync", VM)
    assert privilege in outcome.out + outcome.err, outcome
    assert "Traceback" not in outcome.err
    assert lab.control("snapshots", VM) or lab.control("orphans")
    lab.control("allow")
    ledger.settle_unknown(content)
    ledger.write()
    ledger.sync()
    ledger.check_source()


def test_all_that_lacks_is_told_at_once(ledger: Ledger) -> None:
    lab = ledger.pair.lab
    for need in NEEDED:
        if need.place is not Place.FOLDER:
            lab.control("deny", need.privilege)
    checked = ledger.pair.source("preflight", VM, "--json")
    assert checked.code == EXIT_REFUSED
    told = [one["sentence"] for one in checked.json["findings"] if one["rule"] == "privilege"]
    assert len(told) == len({need.purpose for need in NEEDED if need.place is not Place.FOLDER})
    for need in NEEDED:
        assert need.place is Place.FOLDER or any(need.privilege in one for one in told)


def test_the_role_is_made_by_one_command_and_only_once(ledger: Ledger) -> None:
    lab = ledger.pair.lab
    first = ledger.pair.source("role", "create", "--name", "agents", "--json").json
    assert (first["outcome"], first["removed"], first["unknown"]) == ("made", [], [])
    assert set(first["added"]) == {need.privilege for need in NEEDED if not need.privilege.startswith("System.")}
    again = ledger.pair.source("role", "create", "--name", "agents", "--json").json
    assert (again["outcome"], again["added"], again["removed"]) == ("unchanged", [], [])
    other = ledger.pair.source("role", "create", "--name", "agents", "--transport", "vddk-nbdssl").out
    assert "added VirtualMachine.Config.DiskLease" in other
    assert "removed VirtualMachine.Config.AddExistingDisk" in other
    assert "role agents changed" in other
    administrator = ("--user", lab.vcenter.user, "--password-file", lab.vcenter.password_file)
    assert ledger.pair.source("role", "create", "--name", "agents", *administrator, "--json").json["removed"]
    lab.control("deny", "Authorization.ModifyRoles", "--user", lab.vcenter.user)
    refused = run("source-agent", lab.agent_toml, "role", "create", "--name", "more")
    sentence(refused, EXIT_REFUSED, "Authorization.ModifyRoles", "role more")


# Login, certificate, session, deadline.


def changed(ledger: Ledger, *changes: tuple[str, str]):
    """The agent's configuration with some words replaced."""
    text = ledger.pair.lab.agent_toml.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    config = ledger.pair.folder / "changed.toml"
    config.write_text(text)
    return config


def test_a_wrong_password(ledger: Ledger) -> None:
    (ledger.pair.folder / "wrong-password").write_text("not-it-at-all")
    config = changed(ledger, ('"vcenter-password"', '"wrong-password"'))
    before = ledger.pair.lab.control("calls")["Login"]
    refused = run("source-agent", config, "sync", VM)
    address = f"{ledger.pair.lab.vcenter.host}:{ledger.pair.lab.vcenter.port}"
    told = sentence(refused, EXIT_REFUSED, "logging in to the vCenter", address, "InvalidLogin", "password_file")
    assert "not-it" not in told
    assert ledger.pair.lab.control("calls")["Login"] == before + 1, "a second try may lock the account"
    ledger.check_source()


def test_an_expired_certificate_of_the_vcenter(ledger: Ledger) -> None:
    lab = ledger.pair.lab
    before = lab.control("calls").get("Login", 0)
    lab.control("certificate", -1)
    try:
        refused = ledger.pair.source("sync", VM)
        address = f"{lab.vcenter.host}:{lab.vcenter.port}"
        sentence(refused, EXIT_REFUSED, address, "certificate has expired", "renew the vCenter's certificate")
        assert lab.control("calls").get("Login", 0) == before, "no password goes to whom nobody vouches for"
        rows = {row["rule"]: row for row in ledger.pair.source("doctor", VM, "--json").json["findings"]}
        assert rows["vcenter-certificate"]["severity"] == "refuse"
    finally:
        lab.control("certificate", 365)
    ledger.check_source()
    ledger.write()
    ledger.sync()


def test_a_vcenter_that_answers_after_the_deadline(ledger: Ledger) -> None:
    lab = ledger.pair.lab
    config = changed(ledger, ("[vcenter]\n", "[vcenter]\ntimeout_seconds = 0.5\n"))
    lab.control("delay", "Login", 5)
    refused = run("source-agent", config, "sync", VM)
    sentence(
        refused, EXIT_TRY_LATER, f"{lab.vcenter.host}:{lab.vcenter.port}", "timed out", "check that the vCenter runs"
    )
    lab.control("clear-faults")
    ledger.check_source()


def test_a_snapshot_whose_answer_comes_after_the_deadline_is_removed(ledger: Ledger) -> None:
    """The task goes on at the vCenter after nobody waits for its number any more."""
    lab = ledger.pair.lab
    ledger.write()
    config = changed(ledger, ("[vcenter]\n", "[vcenter]\ntimeout_seconds = 1.5\n"))
    lab.control("fault", "CreateSnapshot_Task", "drop-after", "--delay", 3, "--count", 1)
    outcome = run("source-agent", config, "sync", VM, "--json")
    assert outcome.code in {0, EXIT_TRY_LATER}, outcome
    content = ledger.content()
    ledger.settle_unknown(content)
    lab.control("clear-faults")
    ledger.write()
    ledger.sync()
    ledger.check_source()


@pytest.fixture
def gate(ledger: Ledger) -> Iterator[Gate]:
    """Between the agent and the appliance."""
    with gated(ledger.pair.lab) as made:
        yield made


def test_a_session_that_is_killed_in_mid_sync_is_opened_again(ledger: Ledger, gate: Gate) -> None:
    with syncing(ledger, gate, "--json") as sync:
        content = ledger.content()
        assert ledger.pair.lab.control("expire-sessions") >= 1
        gate.release()
        outcome = ended(sync)
    assert outcome.code == 0, outcome
    ledger.settle(content, outcome.json["point"])
    ledger.check_source()


def test_a_session_that_is_killed_in_mid_sync_and_no_new_one_given(ledger: Ledger, gate: Gate) -> None:
    """The snapshot stays while nobody may log in; it is told, and gone with the next sync."""
    lab = ledger.pair.lab
    with syncing(ledger, gate, "--json") as sync:
        content = ledger.content()
        lab.control("expire-sessions")
        lab.control("fault", "Login", "InvalidLogin")
        gate.release()
        outcome = ended(sync)
    assert "InvalidLogin" in outcome.out, outcome
    assert "may remain" in outcome.out
    assert "Traceback" not in outcome.err
    lab.control("clear-faults")
    ledger.settle_unknown(content)
    ledger.write()
    ledger.sync()
    ledger.check_source()
