"""500 VMs under one agent: its memory, while all of them are watched and synced in turn."""

import psutil
import pytest

from tests.end_to_end.pair import Pair
from tests.end_to_end.test_run import running
from tests.end_to_end.waiting import until
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

VMS = 500
MOST_BYTES = 250 << 20


def test_500_vms_in_250_mib(tmp_path):
    with Lab(tmp_path / "lab", disk_mib=1, more=VMS) as lab, Pair(lab, kms="embedded") as pair:
        with running(pair, vms='"many*"', rpo="1h") as agent:
            process = psutil.Process(agent.process.pid)
            seen = [process.memory_info().rss]

            def synced():
                seen.append(process.memory_info().rss)
                return sum(1 for row in agent.rows().values() if row["point"])

            until("a fifth of them has a point", lambda: synced() >= VMS // 5, 150)
            rows = agent.rows()
            assert len(rows) == VMS
            assert {row["rpo"] for row in rows.values()} <= {"kept", "pending"}
            assert {row["error"] for row in rows.values()} == {None}
            assert agent.stop() == 0
        assert max(seen) < MOST_BYTES
