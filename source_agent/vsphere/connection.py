"""The port's driver for real vCenters, over pyVmomi.

Reads go through ``Session.read`` and may be repeated; mutations through ``Session.mutate``, once. After a mutation
whose answer was lost the object is looked for, never made again.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pyVmomi import vim

from common import log
from common.clock import Clock
from common.errors import BusyError, KeysapartError, NotFoundError, SourceError, SourceUnavailableError
from common.extent import Extent
from common.ids import DiskKey
from source_agent.vsphere import attach, describe, history, placement, properties, surroundings
from source_agent.vsphere.authorization import Authorization
from source_agent.vsphere.faults import CHANGED_AREAS, translate
from source_agent.vsphere.naming import pick
from source_agent.vsphere.port import (
    AttachedDisk,
    ChangedPage,
    DiskInfo,
    Lacking,
    Place,
    Placement,
    RoleChange,
    Snapshot,
    SnapshotInfo,
    Surroundings,
    VmInfo,
)
from source_agent.vsphere.session import Session
from source_agent.vsphere.settings import VCenterSettings
from source_agent.vsphere.tasks import wait_for

__all__ = ["VCenter", "VCenterSettings", "connect"]

T = TypeVar("T")

_log = log.get("vsphere")

BUSY_SECONDS = 60.0
"""How long a change that the vCenter refused because of another task is asked for again."""
LOOK_SECONDS = 10.0
"""How long a snapshot is looked for whose creation was not answered."""

_PAUSE_SECONDS = 1.0
_MOREF = re.compile(r"vm-?[0-9]+|[0-9]+")


def connect(settings: VCenterSettings, clock: Clock) -> "VCenter":
    """A logged-in vCenter; the caller closes it.

    Raises:
        ConfigError: the CA file or the password file cannot be used.
        KeysapartError: as Session.log_in does.
    """
    session = Session(settings)
    try:
        session.log_in()
    except BaseException:
        session.close()
        raise
    return VCenter(session, clock)


class VCenter:
    """See ``port.VSphere``."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._authorization = Authorization(session)
        self._names: dict[str, str] = {}
        """Names by moref of VMs that were described: people know no morefs."""
        self._slots = threading.Lock()
        """Held while a free address of the agent's VM is chosen and taken."""

    # Reading.

    def now(self) -> datetime:
        """See VSphere."""
        service = self._session.reference(vim.ServiceInstance, "ServiceInstance")
        what = "reading the vCenter's clock"
        return describe.utc(self._session.read(what, self._session.settings.subject, service.CurrentTime))

    def vms(self) -> Sequence[VmInfo]:
        """See VSphere. VMs without a visible configuration (orphaned, inaccessible, hidden) are left out."""
        found = properties.of_all(self._session, "listing the VMs", vim.VirtualMachine, describe.VM_PATHS)
        hosts = self._hosts()
        shown = [describe.vm(one.moref, one.values, hosts) for one in found if describe.describable(one.values)]
        return sorted(shown, key=lambda vm: (vm.name, vm.moref))

    def placements(self) -> Sequence[Placement]:
        """See VSphere."""
        return placement.placements(self._session)

    def vm(self, name: str) -> VmInfo:
        """See VSphere."""
        if _MOREF.fullmatch(name):
            try:
                return self._by_moref(name)
            except NotFoundError:
                pass  # a VM may be called so
        paths = ("name", "config.instanceUuid")
        listed = properties.of_all(self._session, "listing the VMs", vim.VirtualMachine, paths)
        named = [describe.named(one.moref, one.values) for one in listed]
        return self._by_moref(pick(named, name).moref)

    def _by_moref(self, moref: str) -> VmInfo:
        what = f"reading VM {moref}"
        found = properties.of_object(self._session, what, f"vm {moref}", self._vm(moref), describe.VM_PATHS)
        if not describe.describable(found.values):
            if fault := next((found.hidden[path] for path in sorted(found.hidden)), None):
                raise translate(fault, what, f"vm {moref}")
            raise SourceError(
                f"VM {moref} has no configuration that can be read (orphaned or inaccessible)",
                subject=f"vm {moref}",
                next_step="bring the VM back into the vCenter's inventory",
            )
        described = describe.vm(moref, found.values, self._host(found.values.get("runtime.host")))
        self._names[moref] = described.name
        return described

    def _host(self, host: Any) -> dict[str, tuple[str, int]]:
        """Version and build of one host, by moref; empty where the login may not see it."""
        if host is None:
            return {}
        moref = properties.moref_of(host)
        try:
            found = properties.of_object(
                self._session, f"reading host {moref}", f"host {moref}", host, describe.HOST_PATHS
            )
        except SourceUnavailableError:
            raise
        except KeysapartError:
            return {}
        return {moref: describe.host(found.values)}

    def _hosts(self) -> dict[str, tuple[str, int]]:
        found = properties.of_all(self._session, "listing the hosts", vim.HostSystem, describe.HOST_PATHS)
        return {one.moref: describe.host(one.values) for one in found}

    def snapshot_bytes(self, moref: str) -> int:
        """See VSphere. The layout is read anew, which vCenter by itself does now and then."""
        machine, what = self._vm(moref), f"reading the files of VM {self._called(moref)}"
        self._session.read(what, f"vm {moref}", machine.RefreshStorageInfo)
        return describe.delta_bytes(self._values(moref, "layoutEx").get("layoutEx"))

    def changed_page(self, moref: str, snapshot: str, disk: DiskKey, change_id: str, offset: int) -> ChangedPage:
        """See VSphere."""
        machine = self._vm(moref)
        reference = self._session.reference(vim.vm.Snapshot, snapshot)

        def ask() -> ChangedPage:
            answer = machine.QueryChangedDiskAreas(
                snapshot=reference, deviceKey=disk, startOffset=offset, changeId=change_id
            )
            areas = tuple(Extent(area.start, area.length) for area in answer.changedArea or [])
            return ChangedPage(answer.startOffset, answer.length, areas)

        what = f"asking for changed areas of disk {disk} of VM {self._called(moref)}"
        return self._session.read(what, f"disk {disk}", ask, CHANGED_AREAS)

    def reverted_since(self, moref: str, since: datetime) -> bool:
        """See VSphere."""
        return history.reverted_since(self._session, self._vm(moref), since, f"VM {self._called(moref)}")

    def surroundings(self, moref: str) -> Surroundings:
        """See VSphere."""
        return surroundings.read(self._session, moref)

    def lacking(self, moref: str, agent_vm: str, wanted: Mapping[Place, frozenset[str]]) -> tuple[Lacking, ...]:
        """See VSphere."""
        return self._authorization.lacking(moref, agent_vm, wanted)

    # Changing.

    def put_role(self, name: str, privileges: frozenset[str]) -> RoleChange:
        """See VSphere."""
        return self._authorization.put_role(name, privileges)

    def enable_tracking(self, moref: str) -> None:
        """See VSphere."""
        spec = vim.vm.ConfigSpec(changeTrackingEnabled=True)
        self._change(moref, "enabling change tracking", lambda machine: machine.ReconfigVM_Task(spec))

    def create_snapshot(self, moref: str, name: str, description: str, *, quiesce: bool) -> Snapshot:
        """See VSphere."""
        what = "taking the snapshot"
        try:
            self._change(
                moref,
                what,
                lambda machine: machine.CreateSnapshot_Task(
                    name=name, description=description, memory=False, quiesce=quiesce
                ),
            )
        except SourceUnavailableError:
            found = self._look_for(moref, name)
            if found is None:
                raise
        else:
            found = self._find(moref, name)
            if found is None:
                raise SourceError(
                    f"{what} of VM {self._called(moref)} succeeded, but the snapshot is not there",
                    subject=f"vm {moref}",
                    next_step="look at the vCenter's tasks for somebody who removed it",
                )
        reference = self._session.reference(vim.vm.Snapshot, found.moref)
        values = properties.of_object(
            self._session, f"reading snapshot {name}", f"vm {moref}", reference, ("config.hardware.device",)
        ).values
        disks = describe.disks(values.get("config.hardware.device") or [])
        quiesced = found.quiesced and self._tools_run(moref)
        return Snapshot(found.moref, name, found.created, disks, moref, quiesced)

    def remove_snapshot(self, moref: str, snapshot: str) -> bool:
        """See VSphere."""
        reference = self._session.reference(vim.vm.Snapshot, snapshot)
        try:
            self._change(
                moref,
                f"removing snapshot {snapshot}",
                lambda _: reference.RemoveSnapshot_Task(removeChildren=False, consolidate=True),
            )
        except (NotFoundError, SourceUnavailableError):
            if any(one.moref == snapshot for one in self._snapshots(moref)):
                raise
        if not self._needs_consolidation(moref):
            return True
        try:
            self._once(moref, "consolidating the disks", lambda machine: machine.ConsolidateVMDisks_Task())
        except KeysapartError as error:
            _log.warning("the disks were not consolidated", vm=self._called(moref), cause=error.message)
        return not self._needs_consolidation(moref)

    def attach_disk(self, moref: str, disk: DiskInfo) -> AttachedDisk:
        """See VSphere."""
        with self._slots:
            return self._while_busy(lambda: self._attach(moref, disk))

    def _attach(self, moref: str, disk: DiskInfo) -> AttachedDisk:
        values = self._values(moref, "config.hardware.device", "config.changeVersion")
        slot = attach.free_slot(values.get("config.hardware.device") or [], f"VM {self._called(moref)}")
        # Another agent on the same VM may take the slot meanwhile: the change version makes this one fail then.
        spec = vim.vm.ConfigSpec(
            changeVersion=values.get("config.changeVersion"), deviceChange=attach.attaching(disk, slot)
        )
        lost: SourceUnavailableError | None = None
        try:
            self._once(moref, f"attaching {disk.backing_path} to a slot", lambda machine: machine.ReconfigVM_Task(spec))
        except SourceUnavailableError as error:
            lost = error
        found = attach.hot_added(self._devices(moref), slot, disk.backing_path)
        if found is None:
            raise lost or SourceError(
                f"{disk.label} was attached to VM {self._called(moref)}, but is not there",
                subject=f"vm {moref}",
                next_step="look at the vCenter's tasks for somebody who detached it",
            )
        return AttachedDisk(DiskKey(found.key), slot.bus, slot.unit)

    def detach_disk(self, moref: str, disk: DiskKey) -> None:
        """See VSphere. Refuses a disk that is not independent and non-persistent: it would not be ours."""
        device = self._disk(moref, disk)
        if device is None:
            return
        if device.backing.diskMode != attach.NON_PERSISTENT:
            raise SourceError(
                f"disk {disk} of VM {moref} is {device.backing.diskMode}, so it is not one that was hot-added",
                subject=f"vm {moref}",
                next_step="report this with the agent's log",
            )
        spec = vim.vm.ConfigSpec(deviceChange=attach.detaching(device))
        try:
            self._change(moref, f"detaching disk {disk}", lambda machine: machine.ReconfigVM_Task(spec))
        except KeysapartError:
            if self._disk(moref, disk) is not None:
                raise

    def close(self) -> None:
        """See VSphere."""
        self._session.close()

    # Helpers.

    def _tools_run(self, moref: str) -> bool:
        """Without VMware Tools a quiesced snapshot is taken all the same, and nobody has flushed anything."""
        path = "guest.toolsRunningStatus"
        return bool(self._values(moref, path).get(path) == "guestToolsRunning")

    def _needs_consolidation(self, moref: str) -> bool:
        path = "runtime.consolidationNeeded"
        return bool(self._values(moref, path).get(path))

    def _called(self, moref: str) -> str:
        return self._names.get(moref, moref)

    def _vm(self, moref: str) -> Any:
        return self._session.reference(vim.VirtualMachine, moref)

    def _values(self, moref: str, *paths: str) -> dict[str, Any]:
        what, subject = f"reading VM {self._called(moref)}", f"vm {moref}"
        found = properties.of_object(self._session, what, subject, self._vm(moref), paths)
        for fault in found.hidden.values():  # what is hidden must not be taken for what is not there
            raise translate(fault, what, subject)
        return found.values

    def _devices(self, moref: str) -> list[Any]:
        return list(self._values(moref, "config.hardware.device").get("config.hardware.device") or [])

    def _disk(self, moref: str, key: DiskKey) -> Any | None:
        disks = (one for one in self._devices(moref) if isinstance(one, vim.vm.device.VirtualDisk))
        return next((one for one in disks if one.key == key), None)

    def _snapshots(self, moref: str) -> tuple[SnapshotInfo, ...]:
        return describe.snapshots(self._values(moref, "snapshot").get("snapshot"))

    def _find(self, moref: str, name: str) -> SnapshotInfo | None:
        return next((one for one in self._snapshots(moref) if one.name == name), None)

    def _look_for(self, moref: str, name: str) -> SnapshotInfo | None:
        """The snapshot of that name, which may be a moment away; None when it does not show or nobody answers."""
        deadline = self._clock.monotonic() + LOOK_SECONDS
        while True:
            try:
                found = self._find(moref, name)
            except KeysapartError:
                return None
            if found is not None or self._clock.monotonic() >= deadline:
                return found
            self._clock.sleep(_PAUSE_SECONDS)

    def _once(self, moref: str, what: str, start: Callable[[Any], Any]) -> Any:
        """Start a task with one call, and wait for its result."""
        machine, subject = self._vm(moref), f"vm {moref}"
        what = f"{what} of VM {self._called(moref)}"
        task = self._session.mutate(what, subject, lambda: start(machine))
        return wait_for(self._session, self._clock, task, what, subject)

    def _change(self, moref: str, what: str, start: Callable[[Any], Any]) -> Any:
        """As ``_once``; asked again for a while when the vCenter refuses it because of another task."""
        return self._while_busy(lambda: self._once(moref, what, start))

    def _while_busy(self, change: Callable[[], T]) -> T:
        deadline = self._clock.monotonic() + BUSY_SECONDS
        while True:
            try:
                return change()
            except BusyError:  # a definite refusal: nothing was done, so asking again repeats nothing
                if self._clock.monotonic() >= deadline:
                    raise
            self._clock.sleep(_PAUSE_SECONDS)
