"""The scheduler's memory: protected VMs, syncs under way, misses. No threads; the caller gives the time and serialises.

step = book.step(now)       start what it names, and call again at ``step.wake`` or after the next event
book.finished(...)          a sync ended with a point
book.failed(...)            a sync ended without one
book.refresh(...)           the inventory or the policies changed
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.ids import ReplicaId
from source_agent.schedule.decide import Decision, Hold, Limits, decide
from source_agent.schedule.explain import Running, why
from source_agent.schedule.policy import Policy, policy_of
from source_agent.schedule.vm import Miss, Vm
from source_agent.vsphere.port import Placement


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a VM from elsewhere when it comes under protection: an earlier agent's notes, or the target's.

    Times are monotonic seconds and lie in the past.
    """

    point: int | None = None
    taken: float | None = None
    compared: float | None = None
    expected: float = 0.0
    missed_total: int = 0
    unfinished: bool = False
    """An earlier agent left a sync of it open, whose snapshot stands."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is to happen at one moment."""

    start: tuple[Running, ...]
    """Syncs to start now; they count as under way from now on."""
    missed: tuple[Miss, ...]
    """RPOs that are missed since the last step."""
    wake: float | None
    """When the next step is due if nothing happens before; None when only an event can change anything."""


@dataclass
class Book:
    """See the module. Fields are to be read, never changed, from outside."""

    limits: Limits
    started: float
    """When this agent began, monotonic seconds."""
    vms: dict[ReplicaId, Vm] = field(default_factory=dict)
    running: dict[ReplicaId, Running] = field(default_factory=dict)
    held: Mapping[ReplicaId, tuple[Hold, ...]] = field(default_factory=dict)
    stopping: bool = False
    """Nothing is started any more."""
    silent: str | None = None
    """A site that does not answer: nothing is started meanwhile, since all of it would fail."""

    def refresh(
        self,
        now: float,
        placements: Iterable[Placement],
        policies: Sequence[Policy],
        known: Mapping[ReplicaId, Known],
    ) -> tuple[list[Vm], list[Vm]]:
        """Take over the inventory and the policies; VMs that came under protection, and that left it.

        Args:
            now: monotonic seconds.
            placements: all VMs of the vCenter.
            policies: the first that selects a VM is its.
            known: of VMs that were not protected before.
        """
        chosen = {
            one.instance_uuid: (one, policy) for one in placements if (policy := policy_of(one, policies)) is not None
        }
        left = [vm for replica, vm in self.vms.items() if replica not in chosen]
        for vm in left:
            del self.vms[vm.replica]
        came: list[Vm] = []
        for replica, (placement, policy) in chosen.items():
            if replica not in self.vms:
                under_way = self.running.get(replica)  # of a VM that left for a moment
                came.append(
                    under_way.vm if under_way else self._new(now, placement, policy, known.get(replica, Known()))
                )
                self.vms[replica] = came[-1]
                continue
            vm = self.vms[replica]
            vm.moref, vm.name = placement.moref, placement.name
            vm.host, vm.datastores = placement.host, placement.datastores
            if vm.policy != policy:
                vm.policy_since = vm.policy_since if vm.policy.rpo == policy.rpo else now
                vm.policy = policy
                vm.replan()
                self._settle(vm, now)
        return came, left

    def learn(self, replica: ReplicaId, known: Known, now: float) -> None:
        """The target told later than usual what it holds of a VM; nothing changes when a point is known already."""
        vm = self.vms.get(replica)
        if vm is not None and vm.point is None and known.point is not None:
            vm.point, vm.taken = known.point, known.taken
            self._resumed(vm)
            self._settle(vm, now)

    def step(self, now: float) -> Step:
        """Decide; VMs that are to start count as running afterwards."""
        under_way = {replica: one.vm for replica, one in self.running.items()}
        started: tuple[Running, ...] = ()
        if not self.stopping:
            decision = self._decide(now, under_way)
            before, self.held = self.held, decision.held
            started = tuple(
                Running(vm, now, vm.wants_compare(now), max(0.0, now - vm.due), before.get(vm.replica, ()))
                for vm in decision.start
            )
            for one in started:
                self.running[one.vm.replica] = one
        missed = []
        wake: float | None = None
        for vm in self.vms.values():
            soonest = vm.due if vm.due > now and vm.replica not in self.running else None
            if vm.miss is None:
                if now > vm.deadline:
                    missed.append(self._miss(vm, now))
                elif soonest is None or vm.deadline < soonest:
                    soonest = vm.deadline + 1.0  # at the deadline itself it is still kept
            if soonest is not None and (wake is None or soonest < wake):
                wake = soonest
        return Step(started, tuple(missed), wake)

    def finished(
        self, now: float, replica: ReplicaId, point: int, *, read_all: bool, earlier: float = 0.0
    ) -> Miss | None:
        """The VM's sync ended with ``point``; the miss that this ends, if any.

        Its age counts from the start of the sync, shortly before its snapshot, or from so many seconds ``earlier``.
        """
        one = self.running.pop(replica)
        one.vm.committed(point, one.began - earlier, now - one.began, read_all=read_all)
        return self._settle(one.vm, now)

    def failed(self, now: float, replica: ReplicaId, error: str, reason: str) -> None:
        """The VM's sync ended without a point; ``error`` is a sentence, ``reason`` its class's wire name."""
        self.running.pop(replica).vm.failed(now, error, reason, self.limits.pace)

    def parked(self, replica: ReplicaId) -> None:
        """The VM's sync ended without a point, and the next one goes on with it: no failure."""
        self.running.pop(replica)

    def recovered(self, now: float, reason: str) -> None:
        """What syncs failed of with ``reason`` works again."""
        for vm in self.vms.values():
            if vm.failures and vm.reason == reason:
                vm.retry_soon(now, self.limits.pace)

    def _decide(self, now: float, under_way: Mapping[ReplicaId, Vm]) -> Decision:
        if self.silent is None:
            return decide(now, self.vms.values(), under_way, self.limits)
        hold = (Hold("site", self.silent, 0),)
        due = (vm for vm in self.vms.values() if vm.due <= now and vm.replica not in under_way)
        return Decision((), {vm.replica: hold for vm in due})

    def _new(self, now: float, placement: Placement, policy: Policy, known: Known) -> Vm:
        vm = Vm(
            replica=placement.instance_uuid,
            moref=placement.moref,
            name=placement.name,
            host=placement.host,
            datastores=placement.datastores,
            policy=policy,
            since=now,
            policy_since=now,
            point=known.point,
            taken=known.taken,
            compared=known.compared,
            expected=known.expected,
            missed_total=known.missed_total,
        )
        self._resumed(vm)
        vm.unfinished = known.unfinished
        vm.replan()
        return vm

    def _resumed(self, vm: Vm) -> None:
        """A point is known from before this agent's start: for how long has nobody looked after it?"""
        vm.replan()
        if vm.taken is not None and vm.taken < self.started:
            vm.stopped = max(0.0, self.started - vm.due)

    def _settle(self, vm: Vm, now: float) -> Miss | None:
        """End the VM's miss when its RPO holds again."""
        ended = vm.miss
        if ended is None or now > vm.deadline:
            return None
        vm.miss = None
        return ended

    def _miss(self, vm: Vm, now: float) -> Miss:
        cause, sentence = why(vm, now, self.running.get(vm.replica), self.held.get(vm.replica, ()))
        vm.miss = Miss(vm.replica, vm.name, now, vm.policy.rpo, cause, sentence)
        vm.missed_total += 1
        return vm.miss
