"""``source-agent doctor`` over a running pair: everything well, and one thing after the other not."""

import shutil
from collections.abc import Iterator

import pytest

from common.errors import EXIT_OK, EXIT_REFUSED
from tests.end_to_end.pair import Pair, run
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

GOOD = ("web01", "plain01")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair whose VMs were never synced."""
    with Lab(tmp_path_factory.mktemp("doctor"), disk_mib=8) as lab, Pair(lab) as made:
        yield made


@pytest.fixture(autouse=True)
def all_well_again(pair: Pair) -> Iterator[None]:
    yield
    pair.lab.control("allow")
    pair.lab.control("clear-faults")


def found(pair: Pair, *names: str, code: int = EXIT_REFUSED, config=None) -> dict[str, dict]:
    """What is not just a note, by rule."""
    outcome = run("source-agent", config or pair.lab.agent_toml, "doctor", *names, "--json")
    assert outcome.code == code, outcome
    assert outcome.json["ready"] is (code == EXIT_OK)
    return {row["rule"]: row for row in outcome.json["findings"] if row["severity"] != "note"}


def changed(pair: Pair, *changes: tuple[str, str]):
    """A configuration with some words replaced."""
    text = pair.lab.agent_toml.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    config = pair.folder / "changed.toml"
    config.write_text(text)
    return config


def test_nothing_is_wrong_with_two_good_vms(pair: Pair) -> None:
    assert found(pair, *GOOD, code=EXIT_OK) == {}
    text = pair.source("doctor", *GOOD)
    assert text.code == EXIT_OK
    assert text.out.splitlines()[-1] == "2 VMs looked at, nothing blocks"
    assert "the agent's certificate lasts until" in text.out
    assert "the vCenter's certificate lasts until" in text.out


def test_every_vm_is_looked_at_and_the_worst_comes_first(pair: Pair) -> None:
    outcome = pair.source("doctor", "--json")
    assert outcome.code == EXIT_REFUSED
    known = {machine.name: machine.refused for machine in pair.lab.machines if machine.name != "agent-vm"}
    assert outcome.json["vms"] == len(known)

    refused = {where for row in outcome.json["findings"] if row["severity"] == "refuse" for where in row["where"]}
    assert refused == {name for name, why in known.items() if why}
    order = [row["severity"] for row in outcome.json["findings"]]
    assert order == sorted(order, key=["refuse", "warn", "note"].index)
    assert "Traceback" not in outcome.err


def test_a_privilege_that_lacks_everywhere_is_one_row(pair: Pair) -> None:
    pair.lab.control("deny", "VirtualMachine.State.CreateSnapshot")
    rows = found(pair, *GOOD)
    assert rows["privilege"]["where"] == ["web01", "plain01"]
    assert len(rows["privilege"]["sentences"]) == 2


def test_what_does_not_answer_keeps_nothing_else_from_being_looked_at(pair: Pair) -> None:
    pair.lab.control("vcenter", "stop")
    pair.lab.control("kms", "stop")
    try:
        rows = found(pair, *GOOD)
    finally:
        pair.lab.control("vcenter", "start")
        pair.lab.control("kms", "start")
    assert rows["source-unavailable"]["where"] == ["vcenter"]
    assert rows["kms-unavailable"]["where"] == ["target"]


def test_a_wrong_password_and_a_target_that_is_not_there(pair: Pair) -> None:
    (pair.folder / "wrong-password").write_text("not-it")
    config = changed(
        pair, ('"vcenter-password"', '"wrong-password"'), (f"127.0.0.1:{pair.lab.data_port}", "127.0.0.1:1")
    )
    rows = found(pair, *GOOD, config=config)
    assert "InvalidLogin" in rows["access-denied"]["sentences"][0]
    assert "127.0.0.1:1" in rows["target-unavailable"]["sentences"][0]


def test_a_key_that_is_not_the_certificates_and_a_state_folder_that_is_a_file(pair: Pair) -> None:
    shutil.copytree(pair.folder / "agent", pair.folder / "mixed")
    (pair.folder / "mixed" / "agent.key").write_bytes((pair.folder / "kms" / "client.key").read_bytes())
    (pair.folder / "a-file").write_text("")
    config = changed(pair, ('"agent/', '"mixed/'), ('"agent-state"', '"a-file"'))
    rows = found(pair, *GOOD, config=config)
    assert "is not the key of" in rows["certificate"]["sentences"][0]
    assert "a-file" in rows["config"]["sentences"][0]


def test_what_a_crashed_sync_left_is_found(pair: Pair) -> None:
    lab = pair.lab
    lab.control("deny", "VirtualMachine.State.RemoveSnapshot", "--hidden")
    pair.sync("plain01")
    lab.control("allow")
    rows = found(pair, code=EXIT_REFUSED)
    assert rows["leftover-snapshot"]["where"] == ["plain01"]
    pair.sync("plain01")
    assert "leftover-snapshot" not in found(pair, code=EXIT_REFUSED)


def test_a_vm_that_is_not_there(pair: Pair) -> None:
    rows = found(pair, "nobody", "web01")
    assert rows["not-found"]["where"] == ["nobody"]


def test_where_policies_say_what_is_protected_only_that_is_looked_at(pair: Pair) -> None:
    policies = '[[protect]]\nvms = ["web*"]\nrpo = "1h"\n\n[[protect]]\nvms = ["ghost*"]\nrpo = "1h"\n\n[log]'
    config = changed(pair, ("[log]", policies))
    outcome = run("source-agent", config, "doctor", "--json")
    assert (outcome.code, outcome.json["vms"]) == (EXIT_OK, 1), outcome
    rows = {row["rule"]: row for row in outcome.json["findings"]}
    assert rows["policy-unused"]["sentences"] == ["no VM fits the 2. [[protect]] section"]


def test_policies_by_tag_are_looked_at_and_a_tag_that_is_not_there_is_told(pair: Pair) -> None:
    lab = pair.lab
    lab.control("tag", "web01", "Protection/gold")
    policies = '[[protect]]\ntag = "Protection:gold"\nrpo = "1h"\n\n[[protect]]\ntag = "Ghost:x"\nrpo = "1h"\n\n[log]'
    config = changed(pair, ("[log]", policies))
    try:
        outcome = run("source-agent", config, "doctor", "--json")
        assert (outcome.code, outcome.json["vms"]) == (EXIT_OK, 1), outcome
        rows = {row["rule"]: row for row in outcome.json["findings"]}
        (told,) = rows["tag-missing"]["sentences"]
        assert 'no tag "Ghost:x"' in told
        lab.control("fault", "rest.session", "http-503")
        rows = found(pair, config=config, code=EXIT_REFUSED)
        assert rows["source-unavailable"]["where"] == ["tags"]
    finally:
        lab.control("clear-faults")
        lab.control("untag", "Protection/gold")


def test_the_ports_of_every_host_that_may_run_a_vm(pair: Pair) -> None:
    config = changed(pair, ('transport = "hotadd"', 'transport = "vddk-nbdssl"'))
    own, other = "127.0.0.11", "127.0.0.12"
    port = pair.lab.vcenter.data_port
    pair.lab.control("host-door", other, "shut")
    try:
        told = findings_of(pair, config)
        (row,) = [row for row in told if f"port {port} of" in row["remedy"]]
        assert (row["severity"], row["rule"], row["where"]) == ("warn", "other-host-port", ["web01", "plain01"])
        (sentence,) = row["sentences"]
        assert sentence.startswith(f"{other}, which VMs may be moved to, takes no connection at port {port}")
        pair.lab.control("host-door", other, "open")
        pair.lab.control("host-door", own, "shut")
        (row,) = [row for row in findings_of(pair, config, EXIT_REFUSED) if f"port {port} of" in row["remedy"]]
        assert (row["severity"], row["rule"], len(row["sentences"])) == ("refuse", "host-port", 2)
        assert f"{own}, the host of web01, takes no connection at port {port}" in row["sentences"][0]
        refused = run("source-agent", config, "sync", "web01", "--json")
        assert refused.code == EXIT_REFUSED
        assert row["remedy"] in refused.error["next_step"]
        assert pair.lab.control("snapshots", "web01") == []
    finally:
        pair.lab.control("host-door", own, "open")
        pair.lab.control("host-door", other, "open")


def findings_of(pair: Pair, config, code: int = EXIT_OK) -> list[dict]:
    """Every row that doctor tells of the two good VMs."""
    outcome = run("source-agent", config, "doctor", *GOOD, "--json")
    assert outcome.code == code, outcome
    return outcome.json["findings"]
