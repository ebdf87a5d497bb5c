"""SIGKILL of either process at any moment: what is committed stays, what is not never shows, the next sync works.

The moments are drawn by a seed, which is printed and can be set with KEYSAPART_KILL_SEED.
"""

import os
import random
import sys
import time
from collections.abc import Iterator

import pytest

from target_appliance.recovery.staging import COMMIT_STEPS, POINTS_SYNCED, RENAMED
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import Pair
from tests.end_to_end.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900), pytest.mark.usefixtures("uncovered")]

KILLS = 20
VM = "web01"
PER_DISK = COMMIT_STEPS[: COMMIT_STEPS.index("record-written")]
DISKS = 2


@pytest.fixture
def rng() -> random.Random:
    """Draws the moments."""
    seed = int(os.environ.get("KEYSAPART_KILL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"KEYSAPART_KILL_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def ledger(pair: Pair, rng: random.Random) -> Iterator[Ledger]:
    """A VM with a first point."""
    with Ledger(pair, VM, rng.randrange(1 << 31)) as made:
        made.sync()
        yield made


class Sync:
    """A sync that goes on while the test does."""

    def __init__(self, ledger: Ledger) -> None:
        self._lock = ledger.pair.folder / "agent-state" / f"vm-{ledger.replica}.lock"
        self.process = ledger.pair.start_source("sync", ledger.vm, "--json")
        until("the sync is at work", self._at_work)
        self._began = time.monotonic()

    def _at_work(self) -> bool:
        try:
            return self._lock.read_text().strip() == str(self.process.pid)
        except FileNotFoundError:
            return False

    def ended(self) -> tuple[int, float]:
        """Its exit code, once it has ended, and how long it was at work."""
        out, err = self.process.communicate(timeout=120)
        assert "Traceback" not in out + err, err
        return self.process.returncode, time.monotonic() - self._began


def test_agent_killed_at_random_moments(ledger: Ledger, rng: random.Random) -> None:
    killed = committed = 0
    longest = _span(ledger)
    for _ in range(3 * KILLS):
        ledger.write()
        content = ledger.content()
        sync = Sync(ledger)
        time.sleep(rng.uniform(0, longest))
        sync.process.kill()
        code, took = sync.ended()
        if code == 0:
            longest = took
        else:
            assert code == -9
            killed += 1
        ledger.write()
        after = ledger.content()
        report = ledger.pair.sync(VM)
        # What the killed one had asked to be committed may be a point; then it is all that it was to be.
        if report["point"] == len(ledger.points) + 2:
            ledger.settle(content, len(ledger.points) + 1)
            committed += code != 0
        else:
            assert code != 0, "a sync that succeeded left no point"
        ledger.settle(after, report["point"])
        assert [disk["rule"] for disk in report["disks"]] == ["all-rules-hold"] * DISKS, report
        ledger.check()
        ledger.check_source()
        if killed == KILLS:
            break
    print(f"{killed} kills, {committed} of them after the commit was asked for")
    assert killed == KILLS
    _check_all(ledger)


def test_appliance_killed_at_random_moments(ledger: Ledger, rng: random.Random) -> None:
    pair = ledger.pair
    cut = committed = 0
    longest = _span(ledger)
    for _ in range(3 * KILLS):
        ledger.write()
        content = ledger.content()
        sync = Sync(ledger)
        time.sleep(rng.uniform(0, longest))
        assert pair.appliance is not None
        pair.appliance.kill()
        code, took = sync.ended()
        ledger.check_source()
        pair.serve()
        landed = ledger.settle_unknown(content)
        if code == 0:
            assert landed, "a commit that was acknowledged is lost"
            longest = took
        else:
            assert code == 5, code
            cut += 1
            committed += landed
        ledger.check_nothing_else()
        ledger.write()
        assert ledger.sync()["kind"] == "delta"
        ledger.check()
        ledger.check_source()
        if cut == KILLS:
            break
    print(f"{cut} kills, {committed} of them after the commit")
    assert cut == KILLS
    _check_all(ledger)


def test_appliance_killed_at_every_step_of_a_commit(ledger: Ledger) -> None:
    pair = ledger.pair
    steps = [(step, nth) for step in COMMIT_STEPS for nth in range(1, DISKS + 1 if step in PER_DISK else 2)]
    for step, nth in steps:
        assert pair.appliance is not None
        assert pair.appliance.stop() == 0
        words = [sys.executable, "-m", "tests.end_to_end.serve_with_failpoint", pair.config, step, str(nth)]
        dying = pair.serve(command=words).process
        ledger.write()
        content = ledger.content()
        refused = pair.refused(VM)
        assert refused.code == 5, (step, refused)
        assert dying.wait(10) == -9, (step, nth)
        ledger.check_source()

        pair.serve()
        assert ledger.settle_unknown(content) == (step in (RENAMED, POINTS_SYNCED)), (step, nth)
        ledger.check_nothing_else()
        ledger.write()
        assert ledger.sync()["kind"] == "delta"
        ledger.check()
    _check_all(ledger)


def _check_all(ledger: Ledger) -> None:
    """Nothing that came later changed any point, and each has its line in the audit log."""
    pair = ledger.pair
    assert pair.done("audit", "verify")["intact"]
    told = {
        one["facts"]["record_hash"]
        for one in pair.done("audit", "show")["events"]
        if one["what"] in {"sync-committed", "point-found"}
    }
    replica = pair.done("replicas")["replicas"][0]["replica"]
    assert {one["record_hash"] for one in pair.done("points", replica)["points"]} <= told
    for point in ledger.points:
        ledger.check_content(point)
    ledger.check_by_command()


def _span(ledger: Ledger) -> float:
    """How long a sync is at work here and now."""
    ledger.write()
    content = ledger.content()
    code, took = Sync(ledger).ended()
    assert code == 0
    assert ledger.settle_unknown(content)
    return took
