"""An agent that is stopped in mid-sync, and its successor: the sync goes on, and what that costs is measured."""

import threading
from contextlib import contextmanager

import pytest

from tests.end_to_end.conftest import LARGE_MIB, MIB
from tests.end_to_end.gate import gated
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.test_run import running
from tests.end_to_end.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

VM = "plain01"
WINDOW = 64 * MIB


@contextmanager
def counted(lab):
    """The most snapshots that the VM had at once while the block ran, as far as looking again and again tells."""
    over, seen = threading.Event(), [0]

    def look():
        while not over.wait(0.05):
            seen.append(len(lab.control("snapshots", VM)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: max(seen)
    finally:
        over.set()
        thread.join()


def test_the_next_agent_goes_on_with_what_sigterm_stopped(large):
    lab = large.lab
    with Ledger(large, VM) as ledger, gated(lab) as gate, counted(lab) as most:
        config = lab.agent_toml.read_text()
        content = ledger.content()
        gate.hold_after(LARGE_MIB // 2 * MIB)
        with running(large, rpo="7d", vms=f'"{VM}"') as agent:
            gate.wait_held()
            assert agent.stop() == 0
            log = agent.log.read_text()
        assert "Traceback" not in log
        assert f"the sync of VM {VM} for point 1 is parked" in log
        assert "sync failed" not in log
        (standing,) = lab.control("snapshots", VM)
        assert lab.control("orphans") == []
        gate.release()
        ledger.write(MIB)

        lab.agent_toml.write_text(config)
        (large.folder / "notify").unlink()
        with running(large, rpo="7d", vms=f'"{VM}"') as agent:
            until("the point is there", lambda: agent.rows().get(VM, {}).get("point"), 120)
            assert agent.stop() == 0
        again = gate.to_target - LARGE_MIB * MIB
        print(f"{again / MIB:.1f} MiB of {LARGE_MIB} sent again, framing and handshakes included")
        assert again <= WINDOW
        assert (most(), standing["name"].startswith("keysapart-")) == (1, True)
        ledger.settle(content, 1)
        ledger.check_source()
        lab.agent_toml.write_text(config)
        assert not ledger.sync()["resumed"]
        ledger.check()
        ledger.check_source()
