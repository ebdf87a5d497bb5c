"""What an operator takes back reaches what runs: suspension, revocation, limits, through the real commands."""

import shutil
from collections.abc import Iterator

import pytest

from common.errors import EXIT_REFUSED, EXIT_TRY_LATER
from tests.end_to_end.gate import Gate, gated
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import TENANT, Pair
from tests.end_to_end.refusing import ended, sentence, syncing, unharmed
from tests.end_to_end.waiting import until
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

VM = "plain01"
REACH_SECONDS = 60.0
"""Within which a right that was taken back must be gone from streams that run."""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with (
        Lab(tmp_path_factory.mktemp("admission") / "lab", disk_mib=16) as lab,
        Pair(lab) as pair,
        Ledger(pair, VM) as made,
    ):
        made.sync()
        yield made


@pytest.fixture
def gate(ledger: Ledger) -> Iterator[Gate]:
    with gated(ledger.pair.lab) as made:
        yield made


def _agent(pair: Pair) -> str:
    found = [agent for row in pair.done("tenants", "list")["tenants"] for agent in row["agents"]]
    (agent,) = (one["agent"] for one in found if not one["revoked"] and one["role"] == "agent")
    return str(agent)


def _cut_by_the_target(pair: Pair, since: int) -> None:
    until("the target ends the stream", lambda: "call ended" in pair.log.read_text()[since:], REACH_SECONDS)


def test_a_suspension_reaches_a_stream_that_runs(ledger: Ledger, gate: Gate) -> None:
    pair = ledger.pair
    with unharmed(ledger):
        with syncing(ledger, gate) as process:
            logged = len(pair.log.read_text())
            pair.done("tenants", "suspend", TENANT)
            _cut_by_the_target(pair, logged)
            gate.release()
            sentence(ended(process), EXIT_REFUSED, f"tenant {TENANT} is suspended", "operator")
        sentence(pair.source("sync", VM), EXIT_REFUSED, "suspended")
        pair.done("tenants", "resume", TENANT)


def test_limits_hold_and_cost_no_point(ledger: Ledger) -> None:
    pair = ledger.pair
    with unharmed(ledger):
        pair.done("tenants", "limit", TENANT, "--max-vms", "1", "--max-streams", "1", "--bandwidth-mib", "64")
        sentence(pair.source("sync", "web01"), EXIT_TRY_LATER, "has 1 replicas, and may have 1")
        ledger.sync()
        pair.done("tenants", "limit", TENANT, "--max-vms", "0", "--max-streams", "0", "--bandwidth-mib", "0")


def test_a_revocation_reaches_a_stream_that_runs_and_lasts(ledger: Ledger, gate: Gate) -> None:
    """Last in this file: it ends the agent that the other tests use, and brings another one in."""
    pair = ledger.pair
    with unharmed(ledger, source_clean=True):
        with syncing(ledger, gate) as process:
            logged = len(pair.log.read_text())
            agent = _agent(pair)
            pair.done("agents", "revoke", agent)
            _cut_by_the_target(pair, logged)
            gate.release()
            sentence(ended(process), EXIT_REFUSED, "does not accept this certificate")
        assert f"agent {agent} of tenant {TENANT} was revoked" in pair.log.read_text()[logged:]
        sentence(pair.source("sync", VM), EXIT_REFUSED, "certificate")
        shutil.rmtree(pair.folder / "agent")
        pair.done("tenants", "add", TENANT, "--out", pair.folder / "agent")
