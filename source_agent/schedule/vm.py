"""What the scheduler knows of one VM, and what follows for its next sync. Times are monotonic seconds. Pure."""

import hashlib
from dataclasses import dataclass, field

from common.ids import ReplicaId
from source_agent.schedule.policy import Policy

_LEARN = 0.3
"""Weight of the newest delta in the duration that is expected of the next."""
_SPREAD = 0.125
"""Part of its RPO by which a VM may be due earlier, so that those that began together drift apart."""
_COMPARE_SPREAD = 0.25
_BACK_OFF_SPREAD = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast failures are tried again; seconds."""

    first: float = 60.0
    most: float = 3600.0


@dataclass(frozen=True, slots=True)
class Miss:
    """A VM's newest point is older than its RPO."""

    replica: ReplicaId
    name: str
    since: float
    rpo: float
    cause: str
    """Short stable word for machines."""
    sentence: str
    """Why, in words."""


@dataclass(slots=True)
class Vm:
    """One protected VM."""

    replica: ReplicaId
    moref: str
    name: str
    host: str
    datastores: tuple[str, ...]
    policy: Policy
    since: float
    """When it came under protection."""
    policy_since: float
    point: int | None = None
    taken: float | None = None
    """When the snapshot of its newest point was taken."""
    compared: float | None = None
    """When the snapshot of the newest point was taken whose sync read everything."""
    expected: float = 0.0
    """How long its next delta will take; 0 while none was seen."""
    failures: int = 0
    """Syncs that failed since the newest point."""
    retry_at: float = 0.0
    error: str | None = None
    """Of the last sync that failed, in a sentence."""
    reason: str | None = None
    """Of the same, as ``common/errors.py`` calls it."""
    stopped: float = 0.0
    """For how long it was due while no agent ran, before this one started."""
    unfinished: bool = False
    """An earlier agent left a sync of it open: a snapshot stands, so it is due at once."""
    miss: Miss | None = None
    missed_total: int = 0
    due: float = 0.0
    """From when on a sync is wanted; kept up by ``replan``."""
    deadline: float = 0.0
    """When the newest point is older than the RPO; kept up by ``replan``."""
    spread: float = field(init=False)
    """Where in its jitter this VM is, 0 to 1; always the same for the same VM."""

    def __post_init__(self) -> None:
        self.spread = fraction(self.replica)
        self.replan()

    def replan(self) -> None:
        """Work ``due`` and ``deadline`` out anew.

        Half of the RPO is left to wait for a free place and to sync; more where syncs take more than a quarter of it.
        """
        rpo = self.policy.rpo
        base = self.since if self.taken is None else self.taken
        wait = 0.0 if self.taken is None else min(rpo / 2, rpo - 2 * self.expected) - self.spread * _SPREAD * rpo
        self.deadline = base + rpo
        self.due = max(self.since if self.unfinished else base + max(0.0, wait), self.retry_at)

    def committed(self, point: int, taken: float, seconds: float, *, read_all: bool) -> None:
        """A sync ended with a point; ``seconds`` it took, all of it."""
        self.point, self.taken = point, taken
        if read_all:
            self.compared = taken
        else:
            self.expected = seconds if not self.expected else (1 - _LEARN) * self.expected + _LEARN * seconds
        self.failures, self.retry_at, self.stopped, self.unfinished = 0, 0.0, 0.0, False
        self.error = self.reason = None
        self.replan()

    def failed(self, now: float, error: str, reason: str, pace: Pace) -> None:
        """A sync ended without a point: back off, twice as long each time, never longer than half of the RPO."""
        self.failures += 1
        self.error, self.reason = error, reason
        most = min(pace.most, max(pace.first, self.policy.rpo / 2))
        delay = min(most, pace.first * 2.0 ** min(self.failures - 1, 30))
        less = fraction(f"{self.replica}/{self.failures}") * _BACK_OFF_SPREAD
        self.retry_at = now + delay * (1 - less)
        self.replan()

    def retry_soon(self, now: float, pace: Pace) -> None:
        """What made the last sync fail is over: no need to wait longer than after a first failure."""
        self.retry_at = min(self.retry_at, now + self.spread * pace.first)
        self.replan()

    def wants_compare(self, now: float) -> bool:
        """Whether the sync that starts now is to compare everything, because the policy says so."""
        every = self.policy.compare_every
        if every is None or self.point is None:
            return False
        base = self.since if self.compared is None else self.compared
        return now - base >= every * (1 - self.spread * _COMPARE_SPREAD)


def fraction(text: str) -> float:
    """A number from 0 to 1 (without 1) that is the same for the same text, and evenly spread over texts."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / (1 << 48)
