"""Links that break: a sync goes on where the target stands, and what a cut costs is measured on the socket."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import EXIT_TRY_LATER
from tests.end_to_end.cutter import cut_link
from tests.end_to_end.gate import gated
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import Pair
from tests.end_to_end.refusing import ended, sentence, syncing, unharmed
from tests.end_to_end.waiting import until
from tests.lab.site import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

MIB = 1 << 20
DISK_MIB = 256
MOST = 1.10
VM = "plain01"


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Pair]:
    """A pair whose VM has a disk of 256 MiB that does not compress."""
    with Lab(tmp_path / "lab", disk_mib=DISK_MIB) as lab, Pair(lab, kms="embedded") as pair:
        guest = lab.guest(VM, 2000)
        rng = random.Random(256)
        for place in range(0, DISK_MIB, 8):
            guest.write(place * MIB, rng.randbytes(8 * MIB))
        yield pair


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
