"""A drill from begin to end: the live view at a socket of its own, the guest on top, the signed result."""

import shutil
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common.clock import Clock
from common.errors import InterruptedSyncError, NotFoundError
from common.stop_signals import stopped_by_signals
from target_appliance.at_rest import AtRest
from target_appliance.config import ApplianceConfig
from target_appliance.drill import result
from target_appliance.drill.guest import Awaited, Drill, Seen
from target_appliance.drill.machine import PROGRAM, UEFI_CODE, Accelerator, DrillDisk, Firmware, Machine
from target_appliance.identity.signing import Signer
from target_appliance.present.callers import Local, Shown
from target_appliance.present.listen import unix_socket
from target_appliance.present.live import export_name, live
from target_appliance.recovery import vm_file
from target_appliance.recovery.types import PointRecord
from target_appliance.recovery.vault import Vault

_WRITE_MOST_BYTES: Final = 2 << 30
"""What a guest may write to each disk during a drill, in memory."""
_ASK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """A drill that is over."""

    seen: Seen
    document: Path
    """The signed result."""


def machine_of(record: PointRecord, firmware: Firmware, memory_mib: int, processors: int) -> Machine:
    """The machine for a point: its disks at the controllers that they had."""
    disks = (
        DrillDisk(export_name(one.spec.key), one.spec.controller, one.spec.bus, one.spec.unit) for one in record.disks
    )
    return Machine(firmware, memory_mib, processors, tuple(disks))


def firmware_of(vault: Vault, record: PointRecord) -> Firmware:
    """What the VM had; BIOS where the point does not know.

    Raises:
        DamagedError, KeyNotUsableError, KmsUnavailableError: the VM's configuration cannot be read.
    """
    found = vm_file.read(vault.store, vault.keyring, record.tenant, record.replica, record.number)
    return Firmware.UEFI if found is not None and found.firmware == "efi" else Firmware.BIOS


def hold(  # noqa: PLR0917  a composition root
    config: ApplianceConfig,
    held: AtRest,
    shown: Shown,
    machine: Machine,
    awaited: Awaited,
    told: str,
    *,
    seconds: float,
    accelerators: tuple[Accelerator, ...],
    clock: Clock,
) -> Held:
    """Boot a point, and write down how it went; by the main thread.

    Args:
        config: the appliance's.
        held: its state.
        shown: the point.
        machine: what the guest gets.
        awaited: when it counts as up.
        told: the same in words, for the result.
        seconds: how long it may take.
        accelerators: tried in order.
        clock: for deadlines and the result.

    Raises:
        NotFoundError: qemu, or its UEFI, is not installed.
        PreconditionError: qemu does not run the machine.
        InterruptedSyncError: a signal ended it; there is no result.
        KeyNotUsableError, KmsUnavailableError, DamagedError, StoreError: the point cannot be read.
    """
    require_programs(machine.firmware)
    stopping, withdrawn = threading.Event(), _Withdrawn(held, shown, clock)
    began = clock.now().strftime("%Y%m%dT%H%M%SZ")
    with ExitStack() as life:
        life.enter_context(stopped_by_signals(stopping))
        place = Path(life.enter_context(tempfile.TemporaryDirectory(prefix="keysapart-"))) / "nbd"
        listener = life.enter_context(unix_socket(place))
        keys = [one.spec.key for one in held.vault.point(shown.tenant, shown.replica, shown.point).disks]
        life.enter_context(live(held.vault, shown, keys, listener, Local(), clock))
        drill = Drill(
            machine,
            lambda name: f"nbd+unix:///{name}?socket={place}",
            awaited,
            seconds,
            _WRITE_MOST_BYTES,
            clock,
            lambda: stopping.is_set() or withdrawn(),
        )
        seen = drill.run(accelerators)
    if stopping.is_set():
        raise InterruptedSyncError(
            "the drill was interrupted", subject=f"replica {shown.replica}", next_step="begin it again"
        )
    members: dict[str, Any] = result.body(shown, machine, told, seen)
    document = result.keep(config.state_dir / "drills", Signer(held.authority, clock), members, began)
    return Held(seen, document)


def require_programs(firmware: Firmware) -> None:
    """Return if all that a drill needs is installed. Raises NotFoundError."""
    there = {PROGRAM: shutil.which(PROGRAM), "qemu-img": shutil.which("qemu-img")}
    if firmware is Firmware.UEFI:
        there[UEFI_CODE] = UEFI_CODE if Path(UEFI_CODE).exists() else None
    for name, found in there.items():
        if found is None:
            raise NotFoundError(
                f"{name} is not on this machine, which a drill needs",
                subject=f"program {name}",
                next_step="install qemu-system-x86 and qemu-utils, and ovmf for UEFI",
            )


class _Withdrawn:
    """Asks now and then whether the tenant's key may still be used; raises what Vault.still raises."""

    def __init__(self, held: AtRest, shown: Shown, clock: Clock) -> None:
        self._held = held
        self._shown = shown
        self._clock = clock
        self._next = clock.monotonic()

    def __call__(self) -> bool:
        if self._clock.monotonic() >= self._next:
            self._held.vault.still(self._shown.tenant)
            self._next = self._clock.monotonic() + _ASK_SECONDS
        return False
