"""Points that the serving appliance drops by itself, and those that nobody gets it to drop."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import EXIT_REFUSED
from tests.end_to_end import serve_restless_retention
from tests.end_to_end.gate import gated
from tests.end_to_end.pair import TENANT, Pair
from tests.end_to_end.waiting import until
from tests.lab.site import Lab

pytestmark = pytest.mark.lab
VM = "web01"


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    """A pair whose appliance applies the rules all the time."""
    made = Pair(lab, kms="embedded")
    appliance = made.serve(command=[sys.executable, "-m", serve_restless_retention.__name__, made.config])
    try:
        yield made
    finally:
        code = appliance.stop()
    assert code == 0
    assert "Traceback" not in made.log.read_text()


def synced(pair: Pair, times: int = 1) -> None:
    for _ in range(times):
        pair.lab.guest(VM, 2000).write(1 << 20, random.randbytes(1 << 20))
        pair.sync(VM)


def become(pair: Pair, *wanted: int) -> None:
    """Return when these are the points, by the catalog too."""

    def found() -> bool:
        points = [one["point"] for one in pair.done("points", VM)["points"]]
        return points == list(wanted) and pair.done("replicas")["replicas"][0]["point_count"] == len(wanted)

    until(f"points {wanted}", found)


def refused(pair: Pair, why: str, *words: object) -> None:
    outcome = pair.target(*words, "--json")
    assert outcome.code == EXIT_REFUSED, outcome
    assert why in outcome.error["message"]


def test_what_no_rule_keeps_goes_by_itself_and_what_is_held_or_in_use_does_not(pair: Pair) -> None:
    synced(pair, 4)
    pair.done("points", "hold", VM, "--point", 2, "--name", "case-17", "--reason", "court order")
    become(pair, 1, 2, 3, 4)
    pair.done("retention", "set", "--tenant", TENANT, "last=1")
    become(pair, 2, 4)
    told = pair.done("points", "plan-retention", VM)["replicas"][0]["points"]
    why = {one["point"]: one["reasons"] for one in told}
    assert why == {2: ["held: case-17, court order"], 4: ["newest point", "last 1 of 1"]}

    pair.done("retention", "clear", "--tenant", TENANT)
    synced(pair)
    refused(pair, "held: case-17, court order", "points", "drop", VM, "--point", 2)
    pair.done("points", "release", VM, "--point", 2, "--name", "case-17")
    pair.lab.guest(VM, 2000).write(0, random.randbytes(8 << 20))
    with gated(pair.lab) as gate:
        gate.hold_after(1 << 20)
        held = pair.start_source("sync", VM)
        gate.wait_held()
        refused(pair, "a sync under way may stand on it", "points", "drop", VM, "--point", 5)
        pair.done("retention", "set", "--tenant", TENANT, "last=1")
        become(pair, 5)
        gate.release()
        held.communicate(timeout=120)
    assert held.returncode == 0
    become(pair, 6)

    events = pair.done("audit", "show", "--tenant", TENANT)["events"]
    dropped = [one for one in events if one["what"] == "point-dropped"]
    assert {(one["role"], one["facts"]["why"]) for one in dropped} == {("appliance", "last: 1 is newer")}
    assert [one["facts"]["point"] for one in dropped if one["outcome"] == "ok"] == [1, 3, 2, 4, 5]
    assert pair.target("verify", VM).code == 0


def test_a_locked_point_is_dropped_by_nobody_and_its_tenant_not_erased(pair: Pair, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    pair.done("retention", "set", "--tenant", TENANT, "last=1", "--lock-days", 3)
    synced(pair)
    pair.done("retention", "set", "--tenant", TENANT, "--lock-days", 0)
    synced(pair, 2)
    become(pair, 1, 3)
    for _ in range(2):
        refused(pair, "locked until", "points", "drop", VM, "--point", 1)
        refused(pair, "nobody shortens a lock", "tenants", "erase", TENANT, "--yes", "--receipt", receipt)
    assert pair.done("points", "apply-retention")["replicas"][0]["dropped"] == []
    assert not receipt.exists()
    synced(pair)
    become(pair, 1, 4)
    assert pair.target("verify", VM).code == 0
