"""How the daemon ends: syncs under way get a grace, then they are parked or ended."""

from collections.abc import Iterable

from common import log
from source_agent.daemon.events import Terminate
from source_agent.stop import Stop

_log = log.get("run")


class Ending:
    """What was asked of the daemon so far."""

    def __init__(self) -> None:
        self.at: float | None = None
        """When the grace is over, monotonic seconds; None while nobody asked."""
        self._parks = False
        self._cause = ""

    def asked(self, event: Terminate, now: float, *, grace: float, parks: bool, syncs: int) -> None:
        """The first begins the grace, the second is its end, and one that comes while syncs are parked ends them.

        Args:
            event: by what it was asked.
            now: monotonic seconds.
            grace: how long syncs may go on.
            parks: the configuration lets them be parked.
            syncs: how many are under way, for the log.
        """
        if self.at is None:
            self._cause = f"{event.cause} ended the agent"
            self.at = now + grace
            self._parks = event.parks and parks
            _log.info("stopping", cause=event.cause, syncs=syncs)
            return
        self._parks = self._parks and event.parks and now < self.at
        self.at = min(self.at, now)
        _log.warning(f"asked again: syncs under way are {'parked' if self._parks else 'ended'} now", syncs=syncs)

    def apply(self, stops: Iterable[Stop], now: float) -> None:
        """Once the grace is over, tell the syncs that are still under way."""
        if self.at is None or now < self.at:
            return
        for stop in stops:
            (stop.park if self._parks else stop.ask)(self._cause)
