"""A day of many VMs on a clock that is moved by hand: syncs take modelled times and fail, VMs move between hosts.

After each step an own count says whether the decision was right: no bound broken, and nothing due that waits where a
place was free for it, or where something less urgent took it. ``python -m tests.unit.source_agent.schedule.day`` prints
what a day of 500 VMs costs.
"""

import heapq
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

from common.ids import ReplicaId
from source_agent.schedule.book import Book
from source_agent.schedule.decide import Limits, urgency
from source_agent.schedule.policy import Policy
from source_agent.vsphere.port import Placement

MINUTE, HOUR = 60.0, 3600.0
POLICIES = (
    Policy(rpo=15 * MINUTE, vms=("gold*",), priority=2),
    Policy(rpo=HOUR, vms=("silver*",), priority=1),
    Policy(rpo=4 * HOUR, vms=("bronze*",)),
    Policy(rpo=24 * HOUR, compare_every=24 * HOUR),
)
MIX = ("gold",) * 2 + ("silver",) * 8 + ("bronze",) * 6 + ("tin",) * 4


@dataclass
class Modelled:
    """One VM of the model."""

    placement: Placement
    seconds: float
    """A delta takes about this long, a full or a compare six times that."""
    fails: float = 0.0
    """Share of its syncs that fail."""


@dataclass
class Day:
    """A site, its book, and what happened."""

    book: Book
    machines: dict[ReplicaId, Modelled]
    policies: tuple[Policy, ...] = POLICIES
    seed: int = 1
    migrations: bool = True
    now: float = 0.0
    points: Counter[ReplicaId] = field(default_factory=Counter)
    attempts: Counter[ReplicaId] = field(default_factory=Counter)
    longest_gap: dict[ReplicaId, float] = field(default_factory=dict)
    misses: list = field(default_factory=list)
    compares: Counter[ReplicaId] = field(default_factory=Counter)
    steps: int = 0
    cost: float = 0.0
    """Processor seconds spent in the book's steps."""
    check_every: int = 1
    """Each so many steps are held against the own count, which is dear where hundreds wait; 0 for none."""
    busiest: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._ends: list[tuple[float, ReplicaId, bool]] = []
        self._last: dict[ReplicaId, float] = {}
        self._next_inventory = 0.0
        self._refresh()

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        until = self.now + seconds
        while True:
            wake = self._step()
            following = min([at for at in (wake, self._next_inventory) if at is not None])
            if self._ends:
                following = min(following, self._ends[0][0])
            if following > until:
                self.now = until
                return
            self.now = max(self.now, following)
            self._end_syncs()
            if self.now >= self._next_inventory:
                self._refresh()

    def demand(self, datastore: str) -> float:
        """Places that the datastore's VMs need on average: a sync must begin every RPO less its own length."""
        vms = [vm for vm in self.book.vms.values() if datastore in vm.datastores]
        return sum(
            self.machines[vm.replica].seconds / (vm.policy.rpo - self.machines[vm.replica].seconds) for vm in vms
        )

    def _refresh(self) -> None:
        if self.migrations and self.points:
            hosts = sorted({one.placement.host for one in self.machines.values()})
            for replica, machine in self._rng.sample(sorted(self.machines.items()), 5):
                if replica not in self.book.running:  # one under way may come to a full host, which nobody can help
                    placement = machine.placement
                    machine.placement = place(placement.name, self._rng.choice(hosts), placement.datastores)
        self.book.refresh(self.now, [one.placement for one in self.machines.values()], self.policies, {})
        self._next_inventory = self.now + 5 * MINUTE

    def _step(self) -> float | None:
        before = {replica: one.vm for replica, one in self.book.running.items()}
        began = time.process_time()
        step = self.book.step(self.now)
        self.cost += time.process_time() - began
        self.steps += 1
        self.misses += step.missed
        self.busiest = max(self.busiest, len(self.book.running))
        for one in step.start:
            self._begin(one)
        if self.check_every and self.steps % self.check_every == 0:
            self._check(before, [one.vm for one in step.start])
        return step.wake

    def _begin(self, one) -> None:
        replica = one.vm.replica
        machine = self.machines[replica]
        self.attempts[replica] += 1
        self.compares[replica] += one.compare
        whole = one.compare or one.vm.point is None
        seconds = machine.seconds * (6 if whole else 1) * self._rng.uniform(0.8, 1.25)
        works = self._rng.random() >= machine.fails
        heapq.heappush(self._ends, (self.now + (seconds if works else seconds / 3), replica, works))

    def _end_syncs(self) -> None:
        while self._ends and self._ends[0][0] <= self.now:
            _, replica, works = heapq.heappop(self._ends)
            if not works:
                self.book.failed(self.now, replica, "the target does not answer", "TARGET_UNAVAILABLE")
                continue
            running = self.book.running[replica]
            self.points[replica] += 1
            gap = self.now - self._last.get(replica, 0.0)
            self.longest_gap[replica] = max(self.longest_gap.get(replica, 0.0), gap)
            self._last[replica] = self.now
            read_all = running.compare or running.vm.point is None
            self.book.finished(self.now, replica, self.points[replica], read_all=read_all)

    def _check(self, before, started) -> None:
        limits = self.book.limits
        use = _Use(self.book.running[replica].vm for replica in self.book.running)
        assert len(self.book.running) <= limits.syncs
        assert max(use.hosts.values(), default=0) <= limits.per_host
        assert max(use.stores.values(), default=0) <= limits.per_datastore
        # Everything that is due, most urgent first: whoever was not started must have found no place that was not
        # taken before, by somebody more urgent, or kept for the head of a queue.
        due = [vm for vm in self.book.vms.values() if vm.due <= self.now and vm.replica not in before]
        chosen = {vm.replica for vm in started}
        use = _Use(before.values())
        taken = len(before)
        queues = set()
        for vm in sorted(due, key=lambda vm: urgency(vm, self.now)):
            if vm.replica in chosen:
                use.add(vm)
                taken += 1
                continue
            full = [("datastore", name) for name in vm.datastores if use.stores[name] >= limits.per_datastore]
            full += [("host", vm.host)] if use.hosts[vm.host] >= limits.per_host else []
            assert taken >= limits.syncs or full, vm
            told = self.book.held[vm.replica]
            assert [(hold.kind, hold.name) for hold in told] == (full or [("agent", "")])
            if full and tuple(full) not in queues:
                use.add(vm)
                queues.add(tuple(full))


class _Use:
    def __init__(self, vms) -> None:
        self.hosts: Counter[str] = Counter()
        self.stores: Counter[str] = Counter()
        for vm in vms:
            self.add(vm)

    def add(self, vm) -> None:
        self.hosts[vm.host] += 1
        self.stores.update(vm.datastores)


def place(name: str, host: str, datastores: tuple[str, ...], **changes) -> Placement:
    replica = ReplicaId(str(uuid.uuid5(uuid.NAMESPACE_DNS, name)))
    values = {"template": False, "folder": "/site/vm", "attributes": {}, **changes}
    return Placement(f"vm-{name}", name, replica, host=host, datastores=datastores, **values)


def site(count: int = 500, *, hosts: int = 16, datastores: int = 20, seconds: float = 20.0, seed: int = 7):
    """VMs of mixed policies, spread over hosts and datastores; a tenth of them lies on two."""
    rng = random.Random(seed)
    made = {}
    for number in range(count):
        name = f"{MIX[number % len(MIX)]}{number:03d}"
        stores = rng.sample(range(datastores), 2 if rng.random() < 0.1 else 1)
        placement = place(name, f"esx{number % hosts}", tuple(sorted(f"ds{one}" for one in stores)))
        made[placement.instance_uuid] = Modelled(placement, seconds * rng.uniform(0.3, 2.0))
    return made


def main() -> None:
    """Print the cost of a day."""
    day = Day(Book(Limits(syncs=24, per_host=4, per_datastore=4), started=0.0), site(), check_every=0)
    day.run(24 * HOUR)
    print(
        f"500 VMs, 24 hours: {sum(day.attempts.values())} syncs, {day.steps} steps, {len(day.misses)} misses,"
        f" {day.cost / 24 * 1000:.0f} ms of processor time an hour, {day.cost / day.steps * 1e6:.0f} us a step"
    )


if __name__ == "__main__":
    main()
