"""What to start now, and why the rest of what is due waits. Pure.

First those whose snapshot stands already, then the earliest deadline, with three bounds: syncs over all, per host, per
datastore. A VM that has to wait for its host or a datastore does not keep others from starting elsewhere; only the
first in each such queue keeps a free place wherever else it needs one. Without that, a VM on two datastores could wait
for ever, because one or the other is always taken; with more than that, the many that wait for a slow datastore would
keep their hosts' places idle.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from common.ids import ReplicaId
from source_agent.schedule.vm import Pace, Vm


@dataclass(frozen=True, slots=True)
class Limits:
    """How many syncs may run at once."""

    syncs: int = 4
    per_host: int = 2
    per_datastore: int = 2
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class Hold:
    """What a VM that is due waits for."""

    kind: str
    """``agent``, ``host``, ``datastore``, or ``site`` for one that does not answer."""
    name: str
    """Of the host, datastore or site; empty for the agent."""
    limit: int

    def __str__(self) -> str:
        if self.kind == "site":
            return f"the {self.name} to answer"
        where = f"{self.kind} {self.name}" if self.name else "this agent"
        return f"one of {self.limit} places on {where}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The VMs to start, most urgent first, and what each other VM that is due waits for."""

    start: tuple[Vm, ...]
    held: Mapping[ReplicaId, tuple[Hold, ...]]
    """Every bound that stands in its way; never empty."""


def urgency(vm: Vm, now: float) -> tuple[bool, float, float, str]:
    """Smaller goes first: what an earlier agent left unfinished, the deadline, then who has waited longer.

    Of those that are late, each step of priority counts like one RPO more.
    """
    late = now > vm.deadline
    deadline = vm.deadline - (vm.policy.priority * vm.policy.rpo if late else 0.0)
    return not vm.unfinished, deadline, vm.due, vm.replica


def decide(now: float, vms: Iterable[Vm], running: Mapping[ReplicaId, Vm], limits: Limits) -> Decision:
    """The decision at ``now`` (monotonic seconds).

    Args:
        now: the time.
        vms: all VMs that are protected.
        running: those of which a sync runs.
        limits: the bounds; what already runs beyond them goes on.
    """
    due = [vm for vm in vms if vm.due <= now and vm.replica not in running]
    if not due:
        return Decision((), {})
    free = limits.syncs - len(running)
    places = _Places(running.values(), limits)
    whole = (Hold("agent", "", limits.syncs),)
    start: list[Vm] = []
    held: dict[ReplicaId, tuple[Hold, ...]] = {}
    queues: set[tuple[Hold, ...]] = set()
    for vm in sorted(due, key=lambda vm: urgency(vm, now)):
        full = places.full(vm)
        if not full and len(start) < free:
            places.take(vm)
            start.append(vm)
            continue
        held[vm.replica] = full or whole
        if full and full not in queues:
            places.take(vm)
            queues.add(full)
    return Decision(tuple(start), held)


class _Places:
    """How many places are taken where."""

    def __init__(self, running: Iterable[Vm], limits: Limits) -> None:
        self._limits = limits
        self._hosts: Counter[str] = Counter()
        self._datastores: Counter[str] = Counter()
        for vm in running:
            self.take(vm)

    def take(self, vm: Vm) -> None:
        self._hosts[vm.host] += 1
        self._datastores.update(vm.datastores)

    def full(self, vm: Vm) -> tuple[Hold, ...]:
        datastores = [name for name in vm.datastores if self._datastores[name] >= self._limits.per_datastore]
        found = [Hold("datastore", name, self._limits.per_datastore) for name in datastores]
        if self._hosts[vm.host] >= self._limits.per_host:
            found.append(Hold("host", vm.host, self._limits.per_host))
        return tuple(found)
