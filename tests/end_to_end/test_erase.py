"""A tenant that is erased while its agent is in the middle of a sync, which is held open."""

import json
import random
import sys
from pathlib import Path

import pytest

from tests.end_to_end import serve_short_leases
from tests.end_to_end.gate import gated
from tests.end_to_end.pair import TENANT, Pair
from tests.lab.site import Lab

pytestmark = pytest.mark.lab
VM = "web01"


@pytest.mark.timeout(180)
def test_a_sync_that_is_held_open_ends_before_the_receipt_and_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    pair, receipt = Pair(lab), tmp_path / "receipt.json"
    serve = [sys.executable, "-m", serve_short_leases.__name__, pair.config]
    appliance = pair.serve(command=serve)
    try:
        pair.sync(VM)
        lab.guest(VM, 2000).write(0, random.Random(1).randbytes(4 << 20))
        with gated(lab) as gate:
            gate.hold_after(1 << 20)
            held = pair.start_source("sync", VM, "--json")
            gate.wait_held()
            body = pair.done("tenants", "erase", TENANT, "--receipt", receipt, "--yes")
            assert body["points"] == 1
            gate.release()
            out, err = held.communicate(timeout=90)
        assert held.returncode != 0, out
        assert json.loads(out)["error"]["reason"] in {"CERTIFICATE", "ACCESS_DENIED"}, out
        assert "Traceback" not in err + pair.log.read_text()
        assert not (pair.folder / "store" / "tenants" / TENANT).exists()
        assert pair.done("tenants", "list")["tenants"] == []
        assert pair.done("catalog", "rebuild")["points"] == 0
        assert appliance.process.poll() is None
    finally:
        appliance.stop()
    assert not (pair.folder / "store" / "tenants" / TENANT).exists()
