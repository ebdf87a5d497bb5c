"""What the agent needs of a vCenter: methods, meaning, failure kinds.

One driver speaks to real vCenters (``connection.py`` and its neighbours), one lives in memory for tests; both pass
``tests/contracts/test_vsphere_contract.py``. All sizes and offsets are bytes. Methods may be called from any thread.

Every method may raise SourceUnavailableError (no answer; retrying may help), CertificateError (the vCenter is not the
one that was pinned), AccessDeniedError (login or privilege refused, the privilege named), NotFoundError (the object is
gone), BusyError (another task is in the way, even after waiting for it), PreconditionError (the VM's state forbids it)
and SourceError (any other fault, the vendor's text kept). Reads log in again once by themselves; mutations are sent
once, and again only after the vCenter itself refused them because of another task.
"""

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from common.extent import Extent
from common.ids import DiskKey, ReplicaId
from common.vm_configuration import VmConfiguration
from common.vsphere.disk import AttachedDisk
from source_agent.vsphere.past import Past


class Backing(enum.StrEnum):
    """What lies behind a virtual disk, as far as the rules care."""

    FILE = "file"
    VIRTUAL_RDM = "virtual-rdm"
    PHYSICAL_RDM = "physical-rdm"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """One virtual disk of a VM, or of a snapshot's frozen configuration."""

    key: DiskKey
    label: str
    uuid: str
    capacity_bytes: int
    backing: Backing
    backing_path: str
    """``[datastore] folder/file.vmdk``; in a snapshot's configuration the frozen base, not the running delta."""
    change_id: str | None
    """None when the disk is not tracked. Only a snapshot's value is ever stored; a running VM's tells the run."""
    independent: bool
    shared_bus: bool
    encrypted: bool
    controller: str
    """Type name of the controller without its package, such as ``ParaVirtualSCSIController``."""
    bus: int
    unit: int
    adapter: str
    """VMDK descriptor's word for the controller: lsilogic, buslogic or ide."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A node of a VM's snapshot tree."""

    moref: str
    name: str
    description: str
    created: datetime
    quiesced: bool = False
    """Made with the guest's file systems flushed, as the vCenter says."""


@dataclass(frozen=True, slots=True)
class VmInfo:
    """A VM as inventory and preflight see it."""

    moref: str
    name: str
    instance_uuid: ReplicaId
    template: bool
    powered_on: bool
    hardware_version: int
    """The number behind ``vmx-``."""
    encrypted: bool
    """The VM home is encrypted (config.keyId set). The key id itself is not read further."""
    has_vtpm: bool
    tracking_supported: bool
    tracking_enabled: bool
    consolidation_needed: bool
    disks: tuple[DiskInfo, ...]
    snapshots: tuple[SnapshotInfo, ...]
    """The whole tree, parents first."""
    host_version: str
    """Version of the ESXi host the VM is on, such as ``8.0.3``; empty when it cannot be seen."""
    host_build: int
    """Build number of that host; 0 when it cannot be seen."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a VM is: what policies select by and what the scheduler bounds; cheap to read for many VMs at once."""

    moref: str
    name: str
    instance_uuid: ReplicaId
    template: bool
    host: str
    """Name of the host it is on; empty when that cannot be seen."""
    datastores: tuple[str, ...]
    """Names of the datastores that hold any file of it, in order."""
    folder: str
    """Inventory path of its folder, such as ``/site/vm/prod``; empty for a VM of a vApp."""
    attributes: Mapping[str, str]
    """Its custom attributes that have a value."""
    tags: frozenset[str] = frozenset()
    """Its tags, as ``category:name``; the caller's to add, see ``VSphere.tagged``."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot made by us, with the configuration it froze."""

    moref: str
    name: str
    created: datetime
    disks: tuple[DiskInfo, ...]
    vm: str
    """Moref of the VM that it is of."""
    quiesced: bool = False
    """The guest's file systems were flushed and frozen: it was asked for, and VMware Tools were there to do it."""
    configuration: VmConfiguration | None = None
    """What the VM was besides its disks; None in notes of earlier releases."""

    @property
    def consistency(self) -> str:
        """What a point made from it guarantees, in the wire's words."""
        return "file-system" if self.quiesced else "crash"


@dataclass(frozen=True, slots=True)
class ChangedPage:
    """One answer to a changed-blocks query; may cover only the beginning of what was asked."""

    offset: int
    length: int
    areas: tuple[Extent, ...]


class KeyProvider(enum.StrEnum):
    """What kind of key provider a VM's key is from."""

    NONE = "none"
    """The VM's home is not encrypted."""
    STANDARD = "standard"
    NATIVE = "native"
    TRUST_AUTHORITY = "trust-authority"
    UNKNOWN = "unknown"
    """The login may not see the providers, or the VM's is not among them."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a VM, as far as preflight cares."""

    host: str
    """As the vCenter names it, which is how it is dialled; empty when it cannot be seen."""
    vsan_datastores: tuple[str, ...]
    """Names of the VM's datastores that are on vSAN."""
    key_provider: KeyProvider
    relocation_disabled: bool
    """Somebody keeps the VM from being moved."""
    tools_running: bool
    """VMware Tools run in the guest."""


@dataclass(frozen=True, slots=True)
class KeyNames:
    """How the vCenter calls what encrypts a VM: for evidence, which digests it; nothing else may hold it."""

    key_ids: tuple[str, ...] = field(repr=False)
    """Of the VM's home and disks."""
    providers: tuple[str, ...] = field(repr=False)
    """Names of the key providers, the VM's and others, as far as the login may see them."""


class Place(enum.StrEnum):
    """Which object a privilege is needed on."""

    VM = "vm"
    FOLDER = "folder"
    """The VM's; a VM in a vApp has none."""
    DATASTORE = "datastore"
    """Each one that the VM has files on."""
    AGENT_VM = "agent-vm"
    ROOT = "root"
    """The vCenter itself."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A privilege that the login does not have where it needs it."""

    privilege: str
    place: Place
    entity: str
    """The object in words, such as ``VM web01``."""


@dataclass(frozen=True, slots=True)
class RoleChange:
    """What making a role changed."""

    name: str
    created: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]
    unknown: tuple[str, ...]
    """Wanted privileges that this vCenter's release does not have."""


class VSphere(Protocol):
    """A logged-in vCenter."""

    def now(self) -> datetime:
        """The vCenter's clock, in UTC."""
        ...

    def vms(self) -> Sequence[VmInfo]:
        """All VMs that the login may see, by name."""
        ...

    def placements(self) -> Sequence[Placement]:
        """Where every VM is that the login may see, by name; a fraction of the cost of ``vms``."""
        ...

    def tagged(self, wanted: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Morefs of the VMs that bear each of the tags ``wanted``, which are written ``category:name``.

        A tag that does not exist, or that the login may not see, is left out. Tags are a service of their own, which
        may fail while everything else answers.
        """
        ...

    def vm(self, name: str) -> VmInfo:
        """The VM called ``name``, or whose moref or instance UUID it is; fresh, never from a cache.

        Raises:
            NotFoundError: no such VM.
            PreconditionError: several VMs bear the name; they are listed with their morefs.
        """
        ...

    def past_since(self, moref: str, since: datetime) -> Past:
        """What happened to the VM after ``since``, a time of the vCenter's clock.

        Told by the vCenter's history of tasks and events, which forgets: by default after 30 days.
        """
        ...

    def surroundings(self, moref: str) -> Surroundings:
        """What stands around the VM; what the login may not see is left open."""
        ...

    def possible_hosts(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the hosts that may come to run each VM, by its moref, the present one among them.

        They are those of its cluster that reach all of its datastores; none where the login may not see its host. The
        cost does not grow with the VMs, but for the pages of the answers.
        """
        ...

    def key_names(self, moref: str) -> KeyNames:
        """What encrypts the VM, by name; empty where nothing does."""
        ...

    def lacking(self, moref: str, agent_vm: str, wanted: Mapping[Place, frozenset[str]]) -> tuple[Lacking, ...]:
        """Privileges that the login lacks for the VM ``moref``, of those ``wanted`` on each kind of object.

        ``agent_vm`` is the moref behind Place.AGENT_VM, empty when it is not known: nothing is asked of it then.
        Privileges that this vCenter's release does not have are not missed.
        """
        ...

    def put_role(self, name: str, privileges: frozenset[str]) -> RoleChange:
        """Make the role, or give the one of that name exactly these privileges (and those that every role has)."""
        ...

    def enable_tracking(self, moref: str) -> None:
        """Switch changed-block tracking on; in force from the next snapshot."""
        ...

    def create_snapshot(self, moref: str, name: str, description: str, *, quiesce: bool) -> Snapshot:
        """Take a snapshot without memory.

        The call is sent once. When its outcome is unknown (a broken connection), the snapshot is looked for by
        ``name``, which must therefore be unique, before SourceUnavailableError is raised.

        Raises:
            QuiesceError: ``quiesce`` was asked for, and the guest did not manage.
        """
        ...

    def remove_snapshot(self, moref: str, snapshot: str) -> bool:
        """Remove the one snapshot with moref ``snapshot`` and consolidate; a missing one is no error.

        Returns whether the VM's disks are whole again. Where the vCenter says that they need consolidation it is tried
        once; False means that it did not help.
        """
        ...

    def snapshot_bytes(self, moref: str) -> int:
        """Bytes that what the VM wrote since its newest snapshot takes on its datastores; 0 without a snapshot."""
        ...

    def changed_page(self, moref: str, snapshot: str, disk: DiskKey, change_id: str, offset: int) -> ChangedPage:
        """One page of areas that changed between ``change_id`` and the snapshot, from ``offset`` on, as answered.

        Raises:
            ChangeTrackingError: the change id is unknown, from before a reset, or tracking is off.
        """
        ...

    def attach_disk(self, moref: str, disk: DiskInfo) -> AttachedDisk:
        """Attach a snapshot's disk to the VM ``moref`` (the agent's own), independent and non-persistent.

        Returns when the vCenter says it is attached; the guest operating system may show it a moment later.

        Raises:
            PreconditionError: no SCSI address is free.
            BusyError: the file is locked, as that of a running VM's live disk is.
        """
        ...

    def detach_disk(self, moref: str, disk: DiskKey) -> None:
        """Detach a hot-added disk from the VM without touching its file; a missing one is no error.

        Raises:
            SourceError: the disk was not hot-added; it stays where it is.
        """
        ...

    def close(self) -> None:
        """Log out; never raises."""
        ...
