"""The scrub of a serving appliance: a thread of low priority, and how it tells of what it finds."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from common import log
from common.clock import Clock
from common.errors import KeysapartError
from target_appliance.audit.event import Event, Fact, What, Who
from target_appliance.audit.recorder import Recorder
from target_appliance.catalog.catalog import Catalog
from target_appliance.config import ScrubSettings
from target_appliance.recovery.vault import Vault
from target_appliance.scrub.budget import Budget
from target_appliance.scrub.choice import Due
from target_appliance.scrub.scrubber import Changed, Paused, Scrubber
from target_appliance.scrub.state import State

_log = log.get("scrub")

_REST_SECONDS: Final = 60.0
"""Between two looks for work where there was none."""
_NICE: Final = 10
_JOIN_SECONDS: Final = 30.0


def due(settings: ScrubSettings) -> Due:
    """When looks are due."""
    return Due(every=settings.every_days * 86400, after=settings.after_hours * 3600)


def event(changed: Changed, role: str, actor: str | None = None) -> Event:
    """What the audit log is told of a point that is in another state."""
    row = changed.row
    facts: dict[str, Fact] = {
        "point": row.number,
        "state": row.state,
        "before": changed.before,
        "found": row.what,
        "affects": ", ".join(map(str, changed.affects)),
    }
    return Event(What.POINT_STATE, Who(role, actor, row.tenant), f"replica {row.replica}", facts=facts)


def announce(changed: Changed) -> None:
    """The same for the ordinary log."""
    row = changed.row
    told = _log.info if row.state == State.GOOD else _log.error
    told(
        f"a point is {row.state}",
        tenant=row.tenant,
        replica=row.replica,
        point=row.number,
        before=changed.before,
        cause=row.what,
        affects=list(changed.affects),
    )


@contextmanager
def scrubbing(
    vault: Vault, catalog: Catalog, recorder: Recorder, clock: Clock, settings: ScrubSettings
) -> Iterator[None]:
    """Look at points in the background while the block runs; nothing when it is switched off."""
    if not settings.enabled:
        yield
        return
    stopping = threading.Event()
    budget = Budget(settings, clock, stopping)

    def told(changed: Changed) -> None:
        announce(changed)
        recorder.record(event(changed, "appliance"), strict=False)

    scrubber = Scrubber(vault, catalog, clock, pace=budget.spend, with_key=settings.with_key, told=told)
    thread = threading.Thread(
        target=_run, args=(scrubber, budget, due(settings), stopping.wait), name="scrub", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(_JOIN_SECONDS)


def _run(scrubber: Scrubber, budget: Budget, when: Due, rest: Callable[[float], bool]) -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    while not rest(_REST_SECONDS):
        try:
            round_of(scrubber, budget, when)
        except KeysapartError as error:
            _log.warning("the scrub waits", cause=error.message)


def round_of(scrubber: Scrubber, budget: Budget, when: Due) -> None:
    """Look at what is due while the budget allows it. Raises StoreError: store or catalog do not work."""
    with suppress(Paused):
        while budget.open() and (waiting := scrubber.due(when)):
            scrubber.look(waiting[0])
