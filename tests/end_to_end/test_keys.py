"""Keys that change under a serving appliance and a real KMS."""

import random
from pathlib import Path

import pytest

from tests.end_to_end.pair import TENANT, Pair

pytestmark = pytest.mark.lab
VM = "web01"


def written(pair: Pair, seed: int) -> None:
    pair.lab.guest(VM, 2000).write(seed << 20, random.Random(seed).randbytes(1 << 20))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_keys_are_rotated_and_destroyed_while_the_appliance_serves(pair: Pair, tmp_path: Path) -> None:
    written(pair, 1)
    replica = pair.sync(VM)["replica"]
    before = bytes_of(pair.point_folder(replica, 1))
    (old,) = pair.done("keys", "status")["tenants"]
    done = pair.done("keys", "rotate-kek", TENANT, "--destroy-old")
    assert done["destroyed"] == [old["kek"]]
    written(pair, 2)
    assert pair.sync(VM)["kind"] == "delta"

    pair.done("keys", "rotate-dek", VM)
    written(pair, 3)
    report = pair.sync(VM)
    assert report["kind"] == "full"
    assert {disk["rule"] for disk in report["disks"]} == {"key-rotated"}
    written(pair, 4)
    assert pair.sync(VM)["kind"] == "delta"
    assert pair.done("verify", VM)["findings"] == []
    assert bytes_of(pair.point_folder(replica, 1)) == before

    assert pair.appliance is not None
    limits = Path(f"/proc/{pair.appliance.process.pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "core" in line).split()[4:6] == ["0", "0"]

    receipt = tmp_path / "receipt.json"
    body = pair.done("tenants", "erase", TENANT, "--receipt", receipt, "--yes")
    assert {kek["state"] for kek in body["keks"]} <= {"destroyed", "absent"}
    assert body["points"] == 4
    refused = pair.refused(VM)
    assert refused.error["reason"] in {"CERTIFICATE", "ACCESS_DENIED"}
    assert not pair.point_folder(replica, 1).exists()
