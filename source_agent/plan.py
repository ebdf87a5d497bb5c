"""What a sync does with each disk: full, delta or compare, and the rule that decided. Pure.

A change list may only be trusted (delta) when every rule of ``_RULES`` holds; the first that fails makes the disk a
compare, which reads everything and sends what differs. The decision for a sync is ``plan`` over the snapshot's frozen
configuration: change ids exist only there, and there alone the backing path is the base disk's and not that of the
running delta. ``forecast`` says beforehand, over the live VM, what a sync would most likely do.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.errors import ConfigError
from common.ids import DiskKey, PointNumber, ReplicaId
from source_agent.vsphere.port import DiskInfo, Snapshot, SnapshotInfo, VmInfo


class Kind(enum.StrEnum):
    """What is done with a disk, or with a VM as a whole."""

    FULL = "full"
    """Everything that is not zero is sent; nothing at the target is built upon."""
    DELTA = "delta"
    """The extents that changed since the newest point are read and sent."""
    COMPARE = "compare"
    """Everything is read, what differs from the newest point is sent."""


@dataclass(frozen=True, slots=True)
class HeldDisk:
    """A disk of the target's newest point, as the source described it then."""

    key: DiskKey
    uuid: str
    capacity_bytes: int
    backing_path: str
    change_id: str
    """Empty when the disk was not tracked."""


@dataclass(frozen=True, slots=True)
class HeldPoint:
    """The target's newest point of the VM."""

    number: PointNumber
    replica: ReplicaId
    """Instance UUID of the VM it was made from."""
    disks: tuple[HeldDisk, ...]


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """The decision for one disk."""

    key: DiskKey
    kind: Kind
    rule: str
    """Short stable name of the rule that decided, for machines."""
    cause: str
    """The same in words."""
    since: str | None
    """Change id to ask from; None unless delta."""
    capacity_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision for a VM."""

    kind: Kind
    """Full when nothing at the target is built upon; else compare if any disk is; else delta."""
    base: PointNumber | None
    """Point that is built upon; None for a full."""
    disks: tuple[DiskPlan, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything a rule may look at."""

    vm: VmInfo
    foreign: tuple[SnapshotInfo, ...]
    held: HeldPoint
    before: HeldDisk
    now: DiskInfo
    frozen: bool
    """``now`` is from a snapshot; otherwise from the live VM, whose change ids say less."""


def requested_kind(*, full: bool, compare: bool) -> Kind | None:
    """What a user asked for by options.

    Raises:
        ConfigError: both at once.
    """
    if full and compare:
        raise ConfigError("--full and --compare exclude each other", subject="options", next_step="give one of them")
    if full:
        return Kind.FULL
    return Kind.COMPARE if compare else None


def run_of(change_id: str) -> str:
    """The UUID part of a change id, which names a run of tracking: what stands before the last slash."""
    return change_id.rpartition("/")[0]


_FIXED_6_0_BUILD = 3247720
"""ESXi600-201511001: before it, writes during consolidation were missing from change lists (KB 2136854)."""


def bad_host(version: str, build: int) -> bool:
    """ESXi versions whose change lists are known to leave writes out."""
    release = version.split(".")
    if release[0] in {"3", "4"} or release[:2] in (["5", "0"], ["5", "1"]):
        return True  # growth past each 128 GiB border, KB 2090639
    return release[:2] == ["6", "0"] and 0 < build < _FIXED_6_0_BUILD


def _instance(case: _Case) -> str | None:
    if case.held.replica != case.vm.instance_uuid:
        return "the newest point was made from a VM with another instance UUID"
    return None


def _disk_uuid(case: _Case) -> str | None:
    if case.before.uuid != case.now.uuid:
        return "another disk has this key now (its UUID differs)"
    return None


def _capacity(case: _Case) -> str | None:
    if case.before.capacity_bytes != case.now.capacity_bytes:
        return f"the capacity changed from {case.before.capacity_bytes} to {case.now.capacity_bytes} bytes"
    return None


def _backing(case: _Case) -> str | None:
    if case.before.backing_path != case.now.backing_path:
        return f"the backing file changed from {case.before.backing_path} to {case.now.backing_path}"
    return None


def _foreign(case: _Case) -> str | None:
    if case.foreign:
        return f"the VM has snapshots that are not ours: {', '.join(found.name for found in case.foreign)}"
    return None


def _tracking(case: _Case) -> str | None:
    return None if case.vm.tracking_enabled else "change tracking is off"


def _held_id(case: _Case) -> str | None:
    return None if run_of(case.before.change_id) else "the newest point has no change id for this disk"


def _own_id(case: _Case) -> str | None:
    if case.frozen and not case.now.change_id:
        return "the snapshot has no change id for this disk"
    return None


def _run(case: _Case) -> str | None:
    if case.now.change_id and run_of(case.now.change_id) != run_of(case.before.change_id):
        return "change tracking was reset since the newest point (the change id's UUID differs)"
    return None


def _host(case: _Case) -> str | None:
    if bad_host(case.vm.host_version, case.vm.host_build):
        return f"ESXi {case.vm.host_version} build {case.vm.host_build} is known to leave changes out"
    return None


_RULES: tuple[tuple[str, Callable[[_Case], str | None]], ...] = (
    ("instance-uuid", _instance),
    ("disk-uuid", _disk_uuid),
    ("capacity", _capacity),
    ("backing-path", _backing),
    ("foreign-snapshot", _foreign),
    ("tracking-off", _tracking),
    ("held-change-id", _held_id),
    ("own-change-id", _own_id),
    ("tracking-reset", _run),
    ("known-bad-host", _host),
)


def plan(vm: VmInfo, snapshot: Snapshot, held: HeldPoint | None, *, requested: Kind | None = None) -> Plan:
    """The decision for a sync.

    Args:
        vm: the VM as vCenter describes it, read before or after the snapshot was taken.
        snapshot: ours, for this sync; it does not count as foreign.
        held: the target's newest point, None when there is none yet.
        requested: FULL for a new chain, COMPARE to read everything; None leaves it to the rules.
    """
    foreign = tuple(found for found in vm.snapshots if found.moref != snapshot.moref)
    return _decide(vm, foreign, snapshot.disks, held, frozen=True, requested=requested)


def forecast(vm: VmInfo, held: HeldPoint | None, *, requested: Kind | None = None) -> Plan:
    """What ``plan`` would most likely decide if a sync started now; every snapshot of the VM counts as foreign."""
    return _decide(vm, vm.snapshots, vm.disks, held, frozen=False, requested=requested)


def _decide(
    vm: VmInfo,
    foreign: tuple[SnapshotInfo, ...],
    disks: Sequence[DiskInfo],
    held: HeldPoint | None,
    *,
    frozen: bool,
    requested: Kind | None,
) -> Plan:
    if held is None:
        return _all_full(disks, "first-point", "the target holds no point of this VM yet")
    if requested is Kind.FULL:
        return _all_full(disks, "requested", "a full sync was asked for")
    before = {disk.key: disk for disk in held.disks}
    decided = []
    for disk in disks:
        if disk.key not in before:
            decided.append(_full(disk, "new-disk", f"point {held.number} has no such disk"))
        elif requested is Kind.COMPARE:
            decided.append(_compare(disk, "requested", "a compare was asked for"))
        else:
            decided.append(_on_top(_Case(vm, foreign, held, before[disk.key], disk, frozen)))
    kinds = {disk.kind for disk in decided}
    if kinds <= {Kind.FULL}:
        return Plan(Kind.FULL, None, tuple(decided))
    return Plan(Kind.COMPARE if Kind.COMPARE in kinds else Kind.DELTA, held.number, tuple(decided))


def _all_full(disks: Sequence[DiskInfo], rule: str, cause: str) -> Plan:
    return Plan(Kind.FULL, None, tuple(_full(disk, rule, cause) for disk in disks))


def _full(disk: DiskInfo, rule: str, cause: str) -> DiskPlan:
    return DiskPlan(disk.key, Kind.FULL, rule, cause, None, disk.capacity_bytes)


def _compare(disk: DiskInfo, rule: str, cause: str) -> DiskPlan:
    return DiskPlan(disk.key, Kind.COMPARE, rule, cause, None, disk.capacity_bytes)


def _on_top(case: _Case) -> DiskPlan:
    for rule, holds in _RULES:
        if (cause := holds(case)) is not None:
            return _compare(case.now, rule, cause)
    return DiskPlan(
        case.now.key,
        Kind.DELTA,
        "all-rules-hold",
        f"nothing changed since point {case.held.number} that would end trust in change tracking",
        case.before.change_id,
        case.now.capacity_bytes,
    )
