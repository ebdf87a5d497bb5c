"""The rules under which a list of changed blocks may be trusted. Pure.

Each looks at one thing that would make change tracking lie, and says in words what it found; the order is that in which
an administrator would want to hear of them. The facts behind each, and the test that shows it: docs/pitfalls.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common.ids import DiskKey, PointNumber, ReplicaId
from source_agent.vsphere.past import Past
from source_agent.vsphere.port import DiskInfo, SnapshotInfo, VmInfo

HISTORY: Final = timedelta(days=30)
"""How long a vCenter remembers tasks and events unless it is told otherwise; what is older cannot be ruled out."""


@dataclass(frozen=True, slots=True)
class HeldDisk:
    """A disk of the target's newest point, as the source described it then."""

    key: DiskKey
    uuid: str
    """Empty when the point was imported as a seed."""
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
    taken: datetime
    """When the snapshot it was made from was taken, by the vCenter's clock."""
    begins_chain: bool = False
    """The target wants the next point to stand on nothing: its data key was rotated."""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a rule may look at."""

    vm: VmInfo
    foreign: tuple[SnapshotInfo, ...]
    held: HeldPoint
    before: HeldDisk
    now: DiskInfo
    past: Past
    """What happened to the VM since the point."""
    moment: datetime
    """When the decision is made, by the vCenter's clock."""


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


def _may_have_been_bad(version: str) -> bool:
    """A host of this release may have been one of ``bad_host``'s before its last start; 7.0 needs a step between."""
    major = version.partition(".")[0]
    return not major.isdecimal() or int(major) < 7


def _instance(case: Case) -> str | None:
    if case.held.replica != case.vm.instance_uuid:
        return "the newest point was made from a VM with another instance UUID"
    return None


def _seed(case: Case) -> str | None:
    return None if case.before.uuid else "the newest point was imported as a seed, so nobody knows what it lacks"


def _disk_uuid(case: Case) -> str | None:
    if case.before.uuid != case.now.uuid:
        return "another disk has this key now (its UUID differs)"
    return None


def _capacity(case: Case) -> str | None:
    if case.before.capacity_bytes != case.now.capacity_bytes:
        return f"the capacity changed from {case.before.capacity_bytes} to {case.now.capacity_bytes} bytes"
    return None


def _backing(case: Case) -> str | None:
    if case.before.backing_path != case.now.backing_path:
        return f"the backing file changed from {case.before.backing_path} to {case.now.backing_path}"
    return None


def _foreign(case: Case) -> str | None:
    if case.foreign:
        return f"the VM has snapshots that are not ours: {', '.join(found.name for found in case.foreign)}"
    return None


def _reverted(case: Case) -> str | None:
    return "the VM was brought back to a snapshot since the newest point" if case.past.reverted else None


def _history(case: Case) -> str | None:
    if case.moment - case.held.taken > HISTORY:
        return f"the newest point is older than {HISTORY.days} days, and a vCenter's memory of reverts and moves is not"
    return None


def _tracking(case: Case) -> str | None:
    return None if case.vm.tracking_enabled else "change tracking is off"


def _held_id(case: Case) -> str | None:
    return None if run_of(case.before.change_id) else "the newest point has no change id for this disk"


def _own_id(case: Case) -> str | None:
    return None if case.now.change_id else "the disk has no change id: it is not being tracked"


def _run(case: Case) -> str | None:
    if case.now.change_id and run_of(case.now.change_id) != run_of(case.before.change_id):
        return "change tracking was reset since the newest point (the change id's UUID differs)"
    return None


def _host(case: Case) -> str | None:
    if bad_host(case.vm.host_version, case.vm.host_build):
        return f"ESXi {case.vm.host_version} build {case.vm.host_build} is known to leave changes out"
    return None


def _visited(case: Case) -> str | None:
    if case.past.visits is None:
        return "the VM changed hosts more often since the newest point than the vCenter tells at once"
    for visit in case.past.visits:
        ran = f"since the newest point the VM was on {visit.host}"
        if not visit.version:
            return f"{ran}, which is gone or hides its release from this login"
        if bad_host(visit.version, visit.build):
            return f"{ran}, and ESXi {visit.version} build {visit.build} is known to leave changes out"
        if visit.restarted and _may_have_been_bad(visit.version):
            return f"{ran}, which was started anew and may have had a release that leaves changes out"
    return None


RULES: tuple[tuple[str, Callable[[Case], str | None]], ...] = (
    ("instance-uuid", _instance),
    ("imported-seed", _seed),
    ("disk-uuid", _disk_uuid),
    ("capacity", _capacity),
    ("backing-path", _backing),
    ("foreign-snapshot", _foreign),
    ("reverted", _reverted),
    ("history-too-short", _history),
    ("tracking-off", _tracking),
    ("held-change-id", _held_id),
    ("own-change-id", _own_id),
    ("tracking-reset", _run),
    ("known-bad-host", _host),
    ("visited-bad-host", _visited),
)


def broken_rule(case: Case) -> tuple[str, str] | None:
    """The first rule that does not hold, and what it found in words; None when the change list may be trusted."""
    for rule, finds in RULES:
        if (cause := finds(case)) is not None:
            return rule, cause
    return None
