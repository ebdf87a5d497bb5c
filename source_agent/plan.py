"""What a sync does with each disk: full, delta or compare, and the rule that decided. Pure.

A change list may only be trusted (delta) when every rule of ``trust.py`` holds; the first that fails makes the disk a
compare, which reads everything and sends what differs. The decision for a sync is ``plan`` over the snapshot's frozen
configuration: change ids exist only there, and there alone the backing path is the base disk's and not that of the
running delta. ``forecast`` says beforehand, over the live VM, what a sync would most likely do.
"""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from common.errors import ConfigError
from common.ids import DiskKey, PointNumber
from source_agent.trust import Case, HeldDisk, HeldPoint, bad_host, broken_rule
from source_agent.vsphere.past import NOTHING, Past
from source_agent.vsphere.port import DiskInfo, Snapshot, SnapshotInfo, VmInfo

_DELTA: Final = re.compile(r"-[0-9]{6}\.vmdk$")


class Kind(enum.StrEnum):
    """What is done with a disk, or with a VM as a whole."""

    FULL = "full"
    """Everything that is not zero is sent; nothing at the target is built upon."""
    DELTA = "delta"
    """The extents that changed since the newest point are read and sent."""
    COMPARE = "compare"
    """Everything is read, what differs from the newest point is sent."""


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
    keeps_change_ids: bool
    """Whether the point may record the snapshot's change ids: not those of a host whose change lists leave writes out,
    because after the host's upgrade they would be trusted."""


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


def plan(
    vm: VmInfo,
    snapshot: Snapshot,
    held: HeldPoint | None,
    *,
    requested: Kind | None = None,
    past: Past = NOTHING,
) -> Plan:
    """The decision for a sync.

    Args:
        vm: the VM as vCenter describes it, read before or after the snapshot was taken.
        snapshot: ours, for this sync; it does not count as foreign.
        held: the target's newest point, None when there is none yet.
        requested: FULL for a new chain, COMPARE to read everything; None leaves it to the rules.
        past: what happened to the VM since ``held`` was taken.
    """
    foreign = tuple(found for found in vm.snapshots if found.moref != snapshot.moref)
    facts = _Facts(vm, foreign, held, requested, past, snapshot.created)
    return _decide(facts, snapshot.disks)


def forecast(
    vm: VmInfo,
    held: HeldPoint | None,
    now: datetime,
    *,
    requested: Kind | None = None,
    past: Past = NOTHING,
    own_snapshots: frozenset[str] = frozenset(),
) -> Plan:
    """What ``plan`` would decide if a sync started now.

    Args:
        vm: the VM as it is.
        held: as for ``plan``.
        now: the time, by a clock near the vCenter's.
        requested: as for ``plan``.
        past: as for ``plan``.
        own_snapshots: morefs of snapshots that a sync would remove first; all others count as foreign.
    """
    foreign = tuple(found for found in vm.snapshots if found.moref not in own_snapshots)
    ours = vm.snapshots and not foreign
    disks = tuple(replace(disk, backing_path=_base(disk.backing_path)) for disk in vm.disks) if ours else vm.disks
    return _decide(_Facts(vm, foreign, held, requested, past, now), disks)


def _base(path: str) -> str:
    """The base disk's path when only our own snapshots lie above it, whose removal brings it back."""
    return _DELTA.sub(".vmdk", path)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What both decide over."""

    vm: VmInfo
    foreign: tuple[SnapshotInfo, ...]
    held: HeldPoint | None
    requested: Kind | None
    past: Past
    moment: datetime


def _decide(facts: _Facts, disks: Sequence[DiskInfo]) -> Plan:
    held = facts.held
    keeps = not bad_host(facts.vm.host_version, facts.vm.host_build)
    if held is None:
        return _all_full(disks, "first-point", "the target holds no point of this VM yet", keeps_change_ids=keeps)
    if facts.requested is Kind.FULL:
        return _all_full(disks, "requested", "a full sync was asked for", keeps_change_ids=keeps)
    if held.begins_chain:
        cause = "the target begins a new chain: its data key was rotated"
        return _all_full(disks, "key-rotated", cause, keeps_change_ids=keeps)
    before = {disk.key: disk for disk in held.disks}
    decided = tuple(_of_disk(facts, held, before.get(disk.key), disk) for disk in disks)
    kinds = {disk.kind for disk in decided}
    if kinds <= {Kind.FULL}:
        return Plan(Kind.FULL, None, decided, keeps)
    return Plan(Kind.COMPARE if Kind.COMPARE in kinds else Kind.DELTA, held.number, decided, keeps)


def _of_disk(facts: _Facts, held: HeldPoint, before: HeldDisk | None, disk: DiskInfo) -> DiskPlan:
    if before is None:
        return _full(disk, "new-disk", f"point {held.number} has no such disk")
    if facts.requested is Kind.COMPARE:
        return _compare(disk, "requested", "a compare was asked for")
    case = Case(facts.vm, facts.foreign, held, before, disk, past=facts.past, moment=facts.moment)
    if (broken := broken_rule(case)) is not None:
        return _compare(disk, *broken)
    trusted = f"nothing changed since point {held.number} that would end trust in change tracking"
    return DiskPlan(disk.key, Kind.DELTA, "all-rules-hold", trusted, before.change_id, disk.capacity_bytes)


def _all_full(disks: Sequence[DiskInfo], rule: str, cause: str, *, keeps_change_ids: bool) -> Plan:
    return Plan(Kind.FULL, None, tuple(_full(disk, rule, cause) for disk in disks), keeps_change_ids)


def _full(disk: DiskInfo, rule: str, cause: str) -> DiskPlan:
    return DiskPlan(disk.key, Kind.FULL, rule, cause, None, disk.capacity_bytes)


def _compare(disk: DiskInfo, rule: str, cause: str) -> DiskPlan:
    return DiskPlan(disk.key, Kind.COMPARE, rule, cause, None, disk.capacity_bytes)
