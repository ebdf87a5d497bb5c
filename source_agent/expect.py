"""What a planned sync will cost: bytes to read and to send, and how long. Pure.

What is known is said as known, what is guessed bears its ground, and what cannot be guessed stays unknown: a number out
of thin air would be believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from source_agent.measured import Measured
from source_agent.plan import Kind, Plan

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Expectation:
    """Figures of a sync that has not run; None is unknown."""

    bytes_to_read: int | None
    basis: str
    """Where ``bytes_to_read`` is from, in words."""
    bytes_to_send: int | None
    seconds: float | None

    def sentence(self) -> str:
        """For people."""
        read = "unknown" if self.bytes_to_read is None else f"{self.bytes_to_read / _MIB:.1f} MiB"
        sent = "unknown" if self.bytes_to_send is None else f"about {self.bytes_to_send / _MIB:.1f} MiB"
        lasts = "unknown" if self.seconds is None else f"about {self.seconds:.0f} s"
        return f"to read: {read} ({self.basis}); to send: {sent}; takes: {lasts}"


def expect(
    plan: Plan, measured: Mapping[Kind, Measured], *, since_seconds: float | None, listed_bytes: int | None = None
) -> Expectation:
    """The figures for ``plan``.

    Args:
        plan: what will be done.
        measured: the VM's last sync of each kind.
        since_seconds: age of the newest point; None when there is none.
        listed_bytes: what the lists of changed blocks come to, whole grains, once they have been asked for; with the
            capacity of disks that are read whole.
    """
    read, basis = _to_read(plan, measured, since_seconds, listed_bytes)
    return Expectation(read, basis, _to_send(plan, measured, since_seconds, read), _seconds(plan, measured, read))


def _to_read(
    plan: Plan, measured: Mapping[Kind, Measured], since_seconds: float | None, listed_bytes: int | None
) -> tuple[int | None, str]:
    whole = sum(disk.capacity_bytes for disk in plan.disks if disk.kind is not Kind.DELTA)
    holes = any(disk.kind is Kind.FULL for disk in plan.disks)
    changing = sum(disk.capacity_bytes for disk in plan.disks if disk.kind is Kind.DELTA)
    if listed_bytes is not None or not changing:
        read = whole if listed_bytes is None else listed_bytes
        known = "the lists of changed blocks" if changing else "the whole disks"
        return read, "at most: holes are not read" if holes else known
    last = measured.get(Kind.DELTA)
    if last is None or not last.span_seconds or since_seconds is None:
        return None, "a snapshot would tell: no delta was measured yet"
    rate = last.bytes_read / last.span_seconds
    return whole + min(changing, round(rate * since_seconds)), "the rate of change of the last delta"


def _to_send(
    plan: Plan, measured: Mapping[Kind, Measured], since_seconds: float | None, read: int | None
) -> int | None:
    last = measured.get(plan.kind)
    if plan.kind is Kind.COMPARE:
        delta = measured.get(Kind.DELTA)
        if delta is not None and delta.span_seconds and since_seconds is not None:
            return round(delta.bytes_sent / delta.span_seconds * since_seconds)
        return last.bytes_sent if last else None
    if last is None or not last.bytes_read or read is None:
        return None
    return round(read * last.bytes_sent / last.bytes_read)


def _seconds(plan: Plan, measured: Mapping[Kind, Measured], read: int | None) -> float | None:
    last = measured.get(plan.kind) or max(measured.values(), key=lambda one: one.bytes_read, default=None)
    if last is None or read is None:
        return None
    return last.seconds * read / last.bytes_read if last.bytes_read else last.seconds
