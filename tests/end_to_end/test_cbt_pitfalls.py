"""What makes change tracking lie or fall silent, each against the lab's vCenter: never a wrong byte at the target.

``docs/pitfalls.md`` has a row for each. The agent runs as a process; the ledger compares every committed point with
what the guest held, and ``plan`` must have foretold what the sync did. All tests share a lab, and each starts from a VM
whose change tracking is trusted.
"""

import pytest

from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import Pair
from tests.lab.site import Lab

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("uncovered")]

VM = "web01"
GRAIN = 65536
BAD_HOST, GOOD_HOST = ("6.0.0", 2494585), ("8.0.3", 24022510)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One lab, one appliance, one VM with points."""
    folder = tmp_path_factory.mktemp("pitfalls") / "lab"
    with Lab(folder, disk_mib=16) as lab, Pair(lab) as pair, Ledger(pair, VM, seed=11) as book:
        assert book.sync()["kind"] == "full"
        yield book


@pytest.fixture
def ledger(shared):
    """The VM after a delta; whatever the test before left behind is gone."""
    for words in (("clear-faults",), ("answers", "well"), ("tracking-unit", GRAIN), ("host", *GOOD_HOST)):
        order(shared, *words)
    if order(shared, "snapshots", VM):
        order(shared, "drop-snapshots", VM)
    shared.write()
    while shared.sync()["kind"] != "delta":
        shared.write()
    return shared


def foretold(book, *words):
    """What ``plan`` says now; refusals are told by exit code 3 and are no failure."""
    outcome = book.pair.source("plan", VM, "--json", *words)
    assert outcome.code in {0, 3}, outcome
    return outcome.json


def synced_as(book, kind, rules):
    """A sync of this kind whose disks were decided by these rules, as it was foretold."""
    seen = foretold(book)
    assert (seen["ready"], seen["kind"]) == (True, kind), seen
    assert [disk["rule"] for disk in seen["disks"]] == rules
    report = book.sync()
    assert report["kind"] == kind
    assert [disk["rule"] for disk in report["disks"]] == rules
    assert report["expected"]["bytes_to_read"] == report["bytes_read"]
    assert not [one for one in order(book, "snapshots", VM) if one["name"].startswith("keysapart-")]
    assert order(book, "orphans") == []
    return report


def trusted_again(book):
    """After the compare, change tracking is in use again."""
    book.write()
    synced_as(book, "delta", ["all-rules-hold"] * 2)


def order(book, *words):
    return book.pair.lab.control(*words)


def test_a_host_crash_resets_tracking(ledger):
    ledger.write()
    order(ledger, "reset-cbt", VM)
    ledger.write()
    report = synced_as(ledger, "compare", ["tracking-reset"] * 2)
    assert report["bytes_read"] == sum(disk["capacity_bytes"] for disk in report["disks"])
    assert report["bytes_sent"] < report["bytes_read"] / 4
    trusted_again(ledger)


def test_a_disk_grew(ledger):
    size = ledger.pair.lab.guest(VM, 2000).size
    ledger.write()
    order(ledger, "grow", VM, 2000, size + 3 * GRAIN + 512)
    ledger.resized()
    ledger.pair.lab.guest(VM, 2000).write(size + GRAIN, b"in the new part")
    synced_as(ledger, "compare", ["capacity", "all-rules-hold"])
    trusted_again(ledger)
    ledger.check()


def test_a_host_that_leaves_changes_out_and_its_upgrade(ledger):
    ledger.write()
    order(ledger, "host", *BAD_HOST)
    synced_as(ledger, "compare", ["known-bad-host"] * 2)
    ledger.write()
    synced_as(ledger, "compare", ["held-change-id"] * 2)  # none was kept
    order(ledger, "host", *GOOD_HOST)
    ledger.write()
    synced_as(ledger, "compare", ["held-change-id"] * 2)
    trusted_again(ledger)


def test_a_visit_to_a_host_that_leaves_changes_out(ledger):
    order(ledger, "host", *BAD_HOST, "--host", "127.0.0.12")
    order(ledger, "migrate", VM, "127.0.0.12")
    ledger.write()
    order(ledger, "migrate", VM, "127.0.0.11")
    synced_as(ledger, "compare", ["visited-bad-host"] * 2)
    trusted_again(ledger)
    order(ledger, "migrate", VM, "127.0.0.13")  # a good one
    order(ledger, "migrate", VM, "127.0.0.11")
    trusted_again(ledger)


def test_the_vm_was_reverted(ledger):
    order(ledger, "snapshot", VM, "before the experiment")
    ledger.write()
    synced_as(ledger, "compare", ["backing-path"] * 2)
    order(ledger, "revert", VM)
    order(ledger, "drop-snapshots", VM)
    synced_as(ledger, "compare", ["backing-path"] * 2)
    order(ledger, "snapshot", VM, "another")
    ledger.write()
    order(ledger, "revert", VM)
    order(ledger, "drop-snapshots", VM)
    synced_as(ledger, "compare", ["reverted"] * 2)


def test_foreign_snapshots_over_a_tracked_disk(ledger):
    order(ledger, "snapshot", VM, "somebody's")
    ledger.write()
    synced_as(ledger, "compare", ["backing-path"] * 2)
    ledger.write()
    synced_as(ledger, "compare", ["foreign-snapshot"] * 2)


def test_tracking_is_never_switched_on_over_snapshots(shared):
    """Since 6.5 its answers are wrong then, without any error."""
    with Ledger(shared.pair, "plain01") as book:
        order(book, "snapshot", "plain01", "somebody's")
        outcome = book.pair.source("plan", "plain01", "--json")
        assert (outcome.code, outcome.json["ready"]) == (3, False)
        assert "snapshot" in book.pair.refused("plain01").error["message"]
        order(book, "drop-snapshots", "plain01")
        assert book.sync()["kind"] == "full"


def test_storage_vmotion(ledger):
    ledger.write()
    order(ledger, "relocate", VM, 2001)
    synced_as(ledger, "compare", ["all-rules-hold", "backing-path"])
    trusted_again(ledger)


def test_another_disk_under_the_same_key_and_name(ledger):
    order(ledger, "replace", VM, 2000)
    ledger.write()
    synced_as(ledger, "compare", ["disk-uuid", "all-rules-hold"])
    trusted_again(ledger)


def test_a_disk_that_is_not_tracked(ledger):
    ledger.write()
    order(ledger, "untrack", VM, 2001, "on")
    report = ledger.sync()  # seen at the snapshot only: the running VM still showed its run
    assert [disk["rule"] for disk in report["disks"]] == ["all-rules-hold", "own-change-id"]
    assert any("disk 2001 is not tracked" in text for text in report["warnings"])
    ledger.write()
    synced_as(ledger, "compare", ["all-rules-hold", "held-change-id"])
    order(ledger, "untrack", VM, 2001, "off")
    ledger.write()
    assert ledger.sync()["kind"] == "compare"
    trusted_again(ledger)


def test_more_areas_than_an_answer_holds(ledger):
    """2,000 areas an answer: whoever reads the first page only loses the rest."""
    order(ledger, "tracking-unit", 512)
    guest = ledger.pair.lab.guest(VM, 2000)
    for place in range(4500):
        guest.write(place * 3072, b"x")
    synced_as(ledger, "delta", ["all-rules-hold"] * 2)


def test_a_coarse_tracking_unit(ledger):
    order(ledger, "tracking-unit", 1 << 20)
    ledger.write()
    report = synced_as(ledger, "delta", ["all-rules-hold"] * 2)
    assert sum(disk["grains_unchanged"] for disk in report["disks"]) > 0


@pytest.mark.parametrize("how", ["stuck", "elsewhere", "unsorted", "outside", "beyond"])
def test_answers_that_cannot_be_true(ledger, how):
    ledger.write()
    order(ledger, "answers", how)
    report = ledger.sync()
    assert (report["kind"], {disk["rule"] for disk in report["disks"]}) == ("compare", {"change-list"})
    order(ledger, "answers", "well")
    trusted_again(ledger)


@pytest.mark.parametrize("fault", ["FileFault", "InvalidArgument"])
def test_change_queries_that_are_refused(ledger, fault):
    """The tracking file is lost, or the id is from before the disk."""
    ledger.write()
    order(ledger, "fault", "QueryChangedDiskAreas", fault)
    report = ledger.sync()
    assert (report["kind"], {disk["rule"] for disk in report["disks"]}) == ("compare", {"change-list"})
    order(ledger, "clear-faults")
    trusted_again(ledger)


def test_a_scrub_finds_nothing_to_send(ledger):
    report = ledger.pair.sync(VM, "--compare")
    assert (report["kind"], sum(disk["grains_sent"] for disk in report["disks"])) == ("compare", 0)
    assert report["bytes_read"] == report["expected"]["bytes_to_read"]
