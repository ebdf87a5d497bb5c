"""The port's driver for real vCenters, over pyVmomi.

Reads go through ``Session.read`` and may be repeated; mutations through ``Session.mutate``, once. After a mutation
whose answer was lost the object is looked for, never made again.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from pyVmomi import vim

from common import log
from common.clock import Clock
from common.errors import KeysapartError, NotFoundError, SourceError, SourceUnavailableError
from common.extent import Extent
from common.ids import DiskKey
from common.vsphere import properties
from common.vsphere.disk import AttachedDisk, DiskFile
from common.vsphere.faults import CHANGED_AREAS, translate
from common.vsphere.hot_add import HotAdd
from common.vsphere.machines import PAUSE_SECONDS, Machines
from common.vsphere.session import Session
from common.vsphere.settings import VCenterSettings
from source_agent.vsphere import describe, history, key_names, placement, reach, surroundings, vm_config
from source_agent.vsphere.authorization import Authorization
from source_agent.vsphere.naming import pick
from source_agent.vsphere.past import Past
from source_agent.vsphere.port import (
    ChangedPage,
    DiskInfo,
    KeyNames,
    Lacking,
    Place,
    Placement,
    RoleChange,
    Snapshot,
    SnapshotInfo,
    Surroundings,
    VmInfo,
)
from source_agent.vsphere.rest import Rest
from source_agent.vsphere.tags import tagged

__all__ = ["VCenter", "VCenterSettings", "connect"]

_log = log.get("vsphere")

LOOK_SECONDS = 10.0
"""How long a snapshot is looked for whose creation was not answered."""

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
        self._machines = Machines(session, clock)
        self._hot_add = HotAdd(self._machines)
        self._authorization = Authorization(session)
        self._rest = Rest(session.settings)

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

    def tagged(self, wanted: Collection[str]) -> Mapping[str, frozenset[str]]:
        """See VSphere."""
        return tagged(self._rest, wanted)

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
        found = properties.of_object(
            self._session, what, f"vm {moref}", self._machines.reference(moref), describe.VM_PATHS
        )
        if not describe.describable(found.values):
            if fault := next((found.hidden[path] for path in sorted(found.hidden)), None):
                raise translate(fault, what, f"vm {moref}")
            raise SourceError(
                f"VM {moref} has no configuration that can be read (orphaned or inaccessible)",
                subject=f"vm {moref}",
                next_step="bring the VM back into the vCenter's inventory",
            )
        described = describe.vm(moref, found.values, self._host(found.values.get("runtime.host")))
        self._machines.names[moref] = described.name
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
        machine, what = self._machines.reference(moref), f"reading the files of VM {self._machines.called(moref)}"
        self._session.read(what, f"vm {moref}", machine.RefreshStorageInfo)
        return describe.delta_bytes(self._machines.values(moref, "layoutEx").get("layoutEx"))

    def changed_page(self, moref: str, snapshot: str, disk: DiskKey, change_id: str, offset: int) -> ChangedPage:
        """See VSphere."""
        machine = self._machines.reference(moref)
        reference = self._session.reference(vim.vm.Snapshot, snapshot)

        def ask() -> ChangedPage:
            answer = machine.QueryChangedDiskAreas(
                snapshot=reference, deviceKey=disk, startOffset=offset, changeId=change_id
            )
            areas = tuple(Extent(area.start, area.length) for area in answer.changedArea or [])
            return ChangedPage(answer.startOffset, answer.length, areas)

        what = f"asking for changed areas of disk {disk} of VM {self._machines.called(moref)}"
        return self._session.read(what, f"disk {disk}", ask, CHANGED_AREAS)

    def past_since(self, moref: str, since: datetime) -> Past:
        """See VSphere."""
        return history.past_since(
            self._session, self._machines.reference(moref), since, f"VM {self._machines.called(moref)}"
        )

    def surroundings(self, moref: str) -> Surroundings:
        """See VSphere."""
        return surroundings.read(self._session, moref)

    def possible_hosts(self) -> Mapping[str, tuple[str, ...]]:
        """See VSphere."""
        return reach.possible_hosts(self._session)

    def key_names(self, moref: str) -> KeyNames:
        """See VSphere."""
        return key_names.read(self._session, moref)

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
        self._machines.change(moref, "enabling change tracking", lambda machine: machine.ReconfigVM_Task(spec))

    def create_snapshot(self, moref: str, name: str, description: str, *, quiesce: bool) -> Snapshot:
        """See VSphere."""
        what = "taking the snapshot"
        try:
            self._machines.change(
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
                    f"{what} of VM {self._machines.called(moref)} succeeded, but the snapshot is not there",
                    subject=f"vm {moref}",
                    next_step="look at the vCenter's tasks for somebody who removed it",
                )
        reference = self._session.reference(vim.vm.Snapshot, found.moref)
        values = properties.of_object(
            self._session, f"reading snapshot {name}", f"vm {moref}", reference, vm_config.PATHS
        ).values
        disks = describe.disks(values.get("config.hardware.device") or [])
        quiesced = found.quiesced and self._tools_run(moref)
        return Snapshot(found.moref, name, found.created, disks, moref, quiesced, vm_config.recorded(values))

    def remove_snapshot(self, moref: str, snapshot: str) -> bool:
        """See VSphere."""
        reference = self._session.reference(vim.vm.Snapshot, snapshot)
        try:
            self._machines.change(
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
            self._machines.once(moref, "consolidating the disks", lambda machine: machine.ConsolidateVMDisks_Task())
        except KeysapartError as error:
            _log.warning("the disks were not consolidated", vm=self._machines.called(moref), cause=error.message)
        return not self._needs_consolidation(moref)

    def attach_disk(self, moref: str, disk: DiskInfo) -> AttachedDisk:
        """See VSphere."""
        return self._hot_add.attach(moref, DiskFile(disk.backing_path, disk.capacity_bytes, disk.label))

    def detach_disk(self, moref: str, disk: DiskKey) -> None:
        """See VSphere."""
        self._hot_add.detach(moref, disk)

    def close(self) -> None:
        """See VSphere."""
        self._rest.close()
        self._session.close()

    # Helpers.

    def _tools_run(self, moref: str) -> bool:
        """Without VMware Tools a quiesced snapshot is taken all the same, and nobody has flushed anything."""
        path = "guest.toolsRunningStatus"
        return bool(self._machines.values(moref, path).get(path) == "guestToolsRunning")

    def _needs_consolidation(self, moref: str) -> bool:
        path = "runtime.consolidationNeeded"
        return bool(self._machines.values(moref, path).get(path))

    def _snapshots(self, moref: str) -> tuple[SnapshotInfo, ...]:
        return describe.snapshots(self._machines.values(moref, "snapshot").get("snapshot"))

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
            self._clock.sleep(PAUSE_SECONDS)
