"""What a guest may write: qemu itself is asked to, as a guest would."""

from pathlib import Path

import pytest

from common.clock import SystemClock
from target_appliance.drill.guest import Awaited, Drill
from target_appliance.drill.machine import Accelerator, DrillDisk, Firmware, Machine

MIB = 1 << 20


@pytest.mark.parametrize(("most", "cut"), [(16, False), (4, True)])
def test_what_a_guest_writes_has_a_limit_and_qemu_lives_on(tmp_path, most, cut):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(8 * MIB))
    machine = Machine(Firmware.BIOS, 64, 1, (DrillDisk("disk-2000", "ParaVirtualSCSIController", 0, 0),))
    drill = Drill(machine, lambda _: str(disk), Awaited(None, None), 60, most * MIB, SystemClock(), lambda: False)
    with drill._started(Accelerator.TCG) as guest:
        guest._line()
        guest._ask("qmp_capabilities")
        for at in range(8):
            guest._ask("human-monitor-command", **{"command-line": f'qemu-io disk0 "write -P 7 {at}M 1M"'})
        held = [path.stat().st_size for path in overlays(guest._process.pid)]
        assert guest._process.poll() is None
    (size,) = set(held)
    assert (size < 8 * MIB) is cut
    assert 2 * MIB < size <= most * MIB
    assert disk.read_bytes() == bytes(8 * MIB)


def overlays(pid):
    return [path for path in Path(f"/proc/{pid}/fd").iterdir() if "memfd:overlay" in str(path.readlink())]


def test_a_guest_that_resets_itself_did_not_come_up(tmp_path):
    """A kernel that panics does; it is an outcome, no failure of qemu's."""
    disk = tmp_path / "disk.raw"
    reset = b"\xb0\xfe\xe6\x64\xf4\xeb\xfd"  # mov al, 0xfe; out 0x64, al; hlt; jmp to the hlt
    disk.write_bytes(reset.ljust(510, b"\0") + b"\x55\xaa" + bytes(MIB - 512))
    machine = Machine(Firmware.BIOS, 64, 1, (DrillDisk("disk-2000", "VirtualAHCIController", 0, 0),))
    awaited = Awaited("never", None)
    drill = Drill(machine, lambda _: str(disk), awaited, 5, MIB * 16, SystemClock(), lambda: False)

    assert not drill.run((Accelerator.TCG,)).came_up
