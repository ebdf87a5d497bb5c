"""An agent that is stopped in mid-sync, and its successor: the sync goes on, and what that costs is measured."""

import json
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

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
        (row,) = large.source("status", "--json").json["vms"]
        assert (row["parked"]["point"], row["parked"]["goes_on"], row["failures"]) == (1, True, 0)
        assert "the next sync goes on with it" in large.source("status").out
        gate.release()
        ledger.write(MIB)

        lab.agent_toml.write_text(config)
        (large.folder / "notify").unlink()
        with running(large, rpo="7d", vms=f'"{VM}"') as agent:
            until("the point is there", lambda: agent.rows().get(VM, {}).get("point"), 120)
            assert "sync resumed" in large.log.read_text()
            assert agent.rows()[VM]["parked"] is None
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


def test_no_vddk_holds_a_disk_of_a_parked_sync(embedded_pair):
    pair, lab, vm = embedded_pair, embedded_pair.lab, "web01"
    lab.agent_toml.write_text(lab.agent_toml.read_text().replace('"hotadd"', '"vddk-nbdssl"'))
    with Ledger(pair, vm) as ledger, gated(lab) as gate:
        ledger.write(6 * MIB)
        content = ledger.content()
        gate.hold_after(MIB)
        process = pair.start_source("sync", vm, "--json")
        gate.wait_held()
        workers = set(lab.vddk.seen())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert json.loads(out)["error"]["reason"] == "PARKED", (out, err)
        assert workers
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        assert lab.vddk.left("attached") == lab.vddk.left("prepared") == lab.control("orphans") == []
        assert len(lab.control("snapshots", vm)) == 1
        gate.release()
        report = pair.sync(vm)
        assert report["resumed"]
        ledger.settle(content, report["point"])
        ledger.check_source()
