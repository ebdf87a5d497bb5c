"""The status document: what ``source-agent status`` prints, and what a restarted agent goes on from. Pure.

One form for both, so that what is asked of a running agent and what a stopped one left read the same. Times are
ISO 8601 in UTC, durations seconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from common.duration import spoken
from common.ids import ReplicaId
from source_agent.in_flight import InFlight
from source_agent.schedule.book import Book, Known
from source_agent.schedule.explain import Running, places
from source_agent.schedule.vm import Vm

Parked = dict[str, Any]
"""A parked sync as the document tells it."""

HEADINGS = ("vm", "point", "age", "rpo", "kept", "next", "now")


@dataclass(frozen=True, slots=True)
class Moment:
    """The same moment on both clocks."""

    now: float
    """Monotonic seconds."""
    wall: datetime

    def told(self, at: float | None) -> str | None:
        """A monotonic time as people write it."""
        if at is None:
            return None
        return (self.wall + timedelta(seconds=at - self.now)).isoformat(timespec="seconds")

    def heard(self, text: Any) -> float | None:
        """A written time on the monotonic clock; None for what is none, or lies in the future."""
        try:
            at = datetime.fromisoformat(text).astimezone(UTC)
        except (TypeError, ValueError):
            return None
        return None if at > self.wall else self.now - (self.wall - at).total_seconds()


def parked(records: Mapping[ReplicaId, InFlight], wall: datetime, park_seconds: float) -> dict[ReplicaId, Parked]:
    """What is told of each sync that was parked: since when, its point, and whether it still goes on at ``wall``."""
    return {
        vm: {
            "since": record.parked.isoformat(timespec="seconds"),
            "seconds": round((wall - record.parked).total_seconds(), 1),
            "point": record.point,
            "goes_on": (wall - record.parked).total_seconds() < park_seconds,
        }
        for vm, record in records.items()
        if record.parked is not None
    }


def rows(
    book: Book,
    moment: Moment,
    progress: Mapping[ReplicaId, Mapping[str, Any]],
    waiting: Mapping[ReplicaId, Parked],
) -> list[dict[str, Any]]:
    """A row for every protected VM, by name.

    Args:
        book: the scheduler's.
        moment: now.
        progress: of each sync under way: ``step``, ``bytes_read``, ``bytes_total``.
        waiting: the syncs that are parked.
    """
    return [
        _row(book, vm, moment, progress.get(vm.replica, {}), waiting.get(vm.replica))
        for vm in sorted(book.vms.values(), key=lambda vm: (vm.name, vm.replica))
    ]


def _row(book: Book, vm: Vm, moment: Moment, progress: Mapping[str, Any], waiting: Parked | None) -> dict[str, Any]:
    running = book.running.get(vm.replica)
    hold = book.held.get(vm.replica, ()) if running is None else ()
    return {
        "vm": vm.name,
        "replica": vm.replica,
        "host": vm.host,
        "datastores": list(vm.datastores),
        "point": vm.point,
        "point_time": moment.told(vm.taken),
        "age_seconds": None if vm.taken is None else round(moment.now - vm.taken, 1),
        "rpo_seconds": vm.policy.rpo,
        "rpo": "missed" if vm.miss else "kept" if vm.taken is not None else "pending",
        "missed_since": moment.told(vm.miss.since) if vm.miss else None,
        "cause": vm.miss.cause if vm.miss else None,
        "why": vm.miss.sentence if vm.miss else None,
        "missed_total": vm.missed_total,
        "failures": vm.failures,
        "error": vm.error,
        "next_run": moment.told(max(vm.due, moment.now)) if running is None and not book.stopping else None,
        "waiting_for": places(hold) or None,
        "compared_time": moment.told(vm.compared),
        "expected_seconds": round(vm.expected, 1),
        "running": None if running is None else _running(running, moment, progress),
        "parked": waiting if running is None else None,
    }


def _running(one: Running, moment: Moment, progress: Mapping[str, Any]) -> dict[str, Any]:
    return {"since": moment.told(one.began), "seconds": round(moment.now - one.began, 1), **progress}


def known(document: Mapping[str, Any], moment: Moment, unfinished: Iterable[ReplicaId] = ()) -> dict[ReplicaId, Known]:
    """What an earlier agent knew, by VM; rows that do not read as they should are left out.

    Of the VMs ``unfinished`` it left a sync open.
    """
    found: dict[ReplicaId, Known] = {}
    for row in document.get("vms", ()):
        taken = moment.heard(row.get("point_time"))
        point = row.get("point")
        if taken is None or not isinstance(point, int):
            continue
        found[ReplicaId(str(row.get("replica")))] = Known(
            point=point,
            taken=taken,
            compared=moment.heard(row.get("compared_time")),
            expected=_number(row.get("expected_seconds")),
            missed_total=int(_number(row.get("missed_total"))),
        )
    for replica in unfinished:
        found[replica] = replace(found.get(replica, Known()), unfinished=True)
    return found


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value >= 0 else 0.0


def left_behind(document: Mapping[str, Any], moment: Moment, waiting: Mapping[ReplicaId, Parked]) -> dict[str, Any]:
    """The document of an agent that no longer runs, as it reads now: ages have grown, and nothing is under way.

    The syncs ``waiting`` are parked.
    """
    vms = []
    for row in document.get("vms", ()):
        taken = moment.heard(row.get("point_time"))
        age = None if taken is None else round(moment.now - taken, 1)
        late = age is not None and age > row["rpo_seconds"]
        fresh = late and row["rpo"] != "missed"
        vms.append(
            {
                **row,
                "age_seconds": age,
                "rpo": "missed" if late else row["rpo"],
                "cause": "agent-stopped" if fresh else row["cause"],
                "why": "no agent is running" if fresh else row["why"],
                "next_run": None,
                "waiting_for": None,
                "running": None,
                "parked": waiting.get(ReplicaId(str(row.get("replica")))),
            }
        )
    return {"agent": {**document.get("agent", {}), "running": False}, "vms": vms}


def cells(row: Mapping[str, Any], moment: Moment) -> tuple[str, ...]:
    """A row for people, under HEADINGS."""
    age = row["age_seconds"]
    soon = datetime.fromisoformat(row["next_run"]) - moment.wall if row["next_run"] else None
    return (
        row["vm"],
        str(row["point"] or "-"),
        spoken(age) if age is not None else "-",
        spoken(row["rpo_seconds"]),
        row["rpo"],
        "-" if soon is None else "now" if soon.total_seconds() <= 0 else f"in {spoken(soon.total_seconds())}",
        _now(row),
    )


def _now(row: Mapping[str, Any]) -> str:
    running = row["running"]
    if running:
        total = running.get("bytes_total") or 0
        share = f", {100 * running['bytes_read'] // total} % read" if total else ""
        return f"syncing for {spoken(running['seconds'])}{share}"
    if waiting := row.get("parked"):
        return _waiting(waiting)
    if row["why"]:
        return str(row["why"])
    if row["error"]:
        return f"the last sync failed: {row['error']}"
    return f"waits for {row['waiting_for']}" if row["waiting_for"] else ""


def _waiting(parked: Parked) -> str:
    what = f"parked for {spoken(parked['seconds'])} on the way to point {parked['point']}"
    if parked["goes_on"]:
        return f"{what}; the next sync goes on with it"
    return f"{what}, longer than park_hours; the next start removes its snapshot and begins anew"
