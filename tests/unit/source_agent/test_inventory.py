import json

import pytest

from source_agent.inventory import row
from tests.unit.source_agent.vms import DISK, GIB, VM, disk, node, vm


@pytest.mark.parametrize(
    ("machine", "tracking"),
    [
        (VM, "on"),
        (vm(tracking_enabled=False), "off"),
        (vm(tracking_enabled=False, tracking_supported=False), "unsupported"),
    ],
)
def test_tracking_in_one_word(machine, tracking):
    assert row(machine).tracking == tracking


def test_a_row_goes_through_json():
    machine = vm(disks=(DISK, disk(key=2001, encrypted=False)), snapshots=(node("a"), node("b")))
    shown = json.loads(json.dumps(row(machine).as_dict()))
    assert (shown["name"], shown["encrypted"], shown["snapshots"]) == ("web01", True, 2)
    assert shown["capacity_bytes"] == 2 * GIB
    assert [(one["key"], one["encrypted"], one["backing"]) for one in shown["disks"]] == [
        (2000, True, "file"),
        (2001, False, "file"),
    ]
