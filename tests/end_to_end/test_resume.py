"""Links that break: a sync goes on where the target stands, and what a cut costs is measured on the socket."""

import os
import random
import time
from collections.abc import Callable, Iterator

import pytest

from common.errors import EXIT_TRY_LATER
from tests.end_to_end.conftest import LARGE_MIB as DISK_MIB
from tests.end_to_end.cutter import Cutter, cut_link
from tests.end_to_end.gate import gated
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import SOON_AGAIN, Pair
from tests.end_to_end.refusing import ended, sentence, syncing, unharmed
from tests.end_to_end.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900), pytest.mark.usefixtures("uncovered")]

MIB = 1 << 20
MOST = 1.10
VM = "plain01"


def test_a_link_that_dies_after_every_mebibyte(large: Pair) -> None:
    ideal = DISK_MIB * MIB
    with Ledger(large, VM) as ledger, cut_link(large.lab, MIB, minutes=1) as link:
        began = time.monotonic()
        report = ledger.sync()
        took = time.monotonic() - began
        print(
            f"{link.cuts} cuts in {took:.0f} s: to target {link.to_target / ideal:.4f}, both ways"
            f" {link.passed / ideal:.4f} of {DISK_MIB} MiB; agent says {report['bytes_sent'] / ideal:.4f}"
        )
        assert link.cuts >= DISK_MIB
        assert link.passed <= MOST * ideal
        ledger.check()
        ledger.check_source()


WINDOW = 64 * MIB
KILLS = 20
NEVER = 1 << 62


@pytest.fixture
def rng() -> random.Random:
    """Draws the moments."""
    seed = int(os.environ.get("KEYSAPART_KILL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"KEYSAPART_KILL_SEED={seed}")
    return random.Random(seed)


def _passes(link: Cutter, more: int, ended: Callable[[], object]) -> bool:
    """Whether so many more bytes pass before the process ends."""
    wanted = link.to_target + more
    until("bytes pass, or the sync ends", lambda: link.to_target >= wanted or ended() is not None, 120)
    return ended() is None


def test_an_agent_killed_again_and_again(large: Pair, rng: random.Random) -> None:
    """One sync of 256 MiB by many processes; what the guest writes meanwhile is not in its point."""
    with Ledger(large, VM) as ledger, cut_link(large.lab, NEVER, minutes=10) as link:
        content = ledger.content()
        costs, ideal = [], DISK_MIB * MIB
        while len(costs) < KILLS:
            process = large.start_source("sync", VM, "--json")
            if not _passes(link, rng.randrange(MIB, 12 * MIB), process.poll):
                break
            process.kill()
            process.communicate()
            ledger.write(MIB)
            costs.append(link.to_target)
        report = large.sync(VM)
        resent = link.to_target - ideal
        print(f"{len(costs)} kills: {resent / MIB:.1f} MiB sent again, {resent / max(1, len(costs)) / MIB:.2f} a kill")
        assert report["resumed"]
        assert len(costs) == KILLS
        assert resent <= KILLS * WINDOW
        ledger.settle(content, report["point"])
        ledger.check_source()
        assert not ledger.sync()["resumed"]
        ledger.check()
        ledger.check_source()


def test_an_appliance_killed_again_and_again(large: Pair, rng: random.Random) -> None:
    """One sync of 256 MiB by one process, into an appliance that dies under it; then one under both."""
    with Ledger(large, VM) as ledger, cut_link(large.lab, NEVER, minutes=5) as link:
        content = ledger.content()
        kills, ideal = 0, DISK_MIB * MIB
        process = large.start_source("sync", VM, "--json", program=SOON_AGAIN)
        while kills < KILLS and _passes(link, rng.randrange(MIB, 12 * MIB), process.poll):
            assert large.appliance is not None
            large.appliance.kill()
            kills += 1
            large.serve()
        if process.poll() is None:
            process.kill()
            assert large.appliance is not None
            large.appliance.kill()
            large.serve()
        process.communicate()
        ledger.write(MIB)
        report = large.sync(VM)
        resent = link.to_target - ideal
        print(
            f"{kills} kills and one of both: {resent / MIB:.1f} MiB sent again, {resent / (kills + 1) / MIB:.2f} a kill"
        )
        assert report["resumed"]
        assert kills == KILLS
        assert resent <= (KILLS + 1) * WINDOW
        ledger.settle(content, report["point"])
        ledger.check()
        ledger.check_source()
        assert not ledger.sync()["resumed"]
        ledger.check()


@pytest.fixture
def ledger(embedded_pair: Pair) -> Iterator[Ledger]:
    """A small VM with a point."""
    with Ledger(embedded_pair, VM) as made:
        made.sync()
        yield made


def test_a_target_that_stays_away_costs_no_snapshot(ledger: Ledger) -> None:
    with unharmed(ledger):
        ledger.write(6 * MIB)
        with cut_link(ledger.pair.lab, MIB, minutes=0.05, rises=False) as link:
            refused = ledger.pair.source("sync", VM)
        assert link.cuts == 1
        sentence(
            refused,
            EXIT_TRY_LATER,
            "nothing reached the target for 0.05 minutes",
            "snapshot does not fill the datastore",
            f"127.0.0.1:{link.port}",
            "sync again, which sends anew what changed since the last point",
        )


def test_a_link_that_swallows_everything_is_left_and_made_anew(ledger: Ledger) -> None:
    with gated(ledger.pair.lab) as gate, syncing(ledger, gate, "--json") as sync:
        content = ledger.content()
        before = gate.connections
        until("the agent connects anew", lambda: gate.connections > before, 45)
        gate.release()
        outcome = ended(sync)
    assert outcome.code == 0, outcome
    ledger.settle(content, outcome.json["point"])
    ledger.check()
    ledger.check_source()
