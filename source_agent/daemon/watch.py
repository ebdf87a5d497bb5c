"""The two threads that look outside: which VMs there are and where, and whether the target answers."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from common import log
from common.clock import Clock
from common.errors import InternalError, KeysapartError, TargetUnavailableError
from common.ids import ReplicaId
from common.wire.v1 import replication_pb2 as wire
from source_agent.daemon.events import Event, Inventory, Site, Tags
from source_agent.daemon.status import Moment
from source_agent.daemon.tags import LastTags
from source_agent.schedule.book import Known
from source_agent.schedule.tags import bearing
from source_agent.vsphere.port import Placement, VSphere

_PROBE_SECONDS: Final = 30.0
_log = log.get("watch")

Put = Callable[[Event], None]


class Describes(Protocol):
    """The part of the target that is asked."""

    def describe(self, replica: ReplicaId) -> wire.DescribeReplicaResponse:
        """See Target."""
        ...


class InventoryWatch:
    """Reads the inventory over and over, and asks the target once for each VM of which no point is known.

    Args:
        vsphere: the vCenter.
        target: asked for points.
        clock: for the age of points.
        put: takes the events.
        own: moref of the agent's VM, which is not replicated by itself.
        state_dir: where the last reading of tags is kept.
        tags: those that policies select by, asked anew each time.
        wanted: which of all VMs are protected without a known point.
        every: seconds between two readings, asked anew each time.
        soon: set when it is to be read now and not when it is time.
    """

    def __init__(
        self,
        vsphere: VSphere,
        target: Describes,
        clock: Clock,
        put: Put,
        *,
        own: str,
        state_dir: Path,
        tags: Callable[[], frozenset[str]],
        wanted: Callable[[Sequence[Placement]], Sequence[ReplicaId]],
        every: Callable[[], float],
        soon: threading.Event,
    ) -> None:
        self._vsphere = vsphere
        self._target = target
        self._clock = clock
        self._put = put
        self._own = own
        self._tags = tags
        self._last_tags = LastTags(vsphere, clock, state_dir)
        self._tag_troubles: tuple[str, ...] = ()
        self._wanted = wanted
        self._every = every
        self._told: set[ReplicaId] = set()
        self._soon = soon
        self._over = threading.Event()

    def look(self) -> None:
        """Read now, and tell."""
        try:
            placements = [one for one in self._vsphere.placements() if one.moref != self._own]
        except KeysapartError as error:
            self._put(Site("vcenter", error))
            return
        self._put(Site("vcenter", None))
        asked = self._tags()
        tagged, troubles = self._last_tags.read(asked)
        if troubles != self._tag_troubles:
            self._put(Tags(troubles))
            self._tag_troubles = troubles
        if tagged is None:
            return
        placements = bearing(placements, tagged)
        self._told &= {one.instance_uuid for one in placements}
        self._put(Inventory(placements, self._points(placements), asked))

    def _points(self, placements: Sequence[Placement]) -> dict[ReplicaId, Known]:
        found = {}
        for replica in self._wanted(placements):
            if replica in self._told:
                continue
            try:
                described = self._target.describe(replica)
            except TargetUnavailableError:
                break  # the probe says so; the others are asked the next time
            except KeysapartError as error:
                _log.debug("the target does not tell what it holds", replica=replica, cause=error.message)
                continue
            self._told.add(replica)
            if described.HasField("newest"):
                moment = Moment(self._clock.monotonic(), self._clock.now())
                taken = moment.heard(datetime.fromtimestamp(described.newest.time_seconds, UTC).isoformat())
                found[replica] = Known(described.newest.number, moment.now if taken is None else taken)
        return found

    @contextmanager
    def running(self) -> Iterator[None]:
        """A thread that looks while the block runs."""
        thread = threading.Thread(target=self._run, name="inventory", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._soon.set()
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self._soon.clear()
            _guarded(self.look, "inventory")
            self._soon.wait(self._every())


@contextmanager
def target_watch(probe: Callable[[], KeysapartError | None], put: Put, soon: threading.Event) -> Iterator[None]:
    """A thread that tells, while the block runs, why the target does not answer; None if it does.

    Every 30 seconds, and when ``soon`` is set.
    """
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            soon.clear()
            _guarded(lambda: put(Site("target", probe())), "target")
            soon.wait(_PROBE_SECONDS)

    thread = threading.Thread(target=run, name="target", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        soon.set()
        thread.join()


def _guarded(look: Callable[[], None], what: str) -> None:
    """A mistake of ours in one look must not end the looking."""
    try:
        look()
    except Exception as error:  # noqa: BLE001  whatever it is, the next look may succeed
        _log.error("a look outside broke", what=what, cause=type(error).__name__, where=log.where(error))


def broken(error: BaseException, what: str) -> InternalError:
    """What nobody expected, in a sentence; its text may hold anything and is not shown."""
    return InternalError(
        f"an unexpected {type(error).__name__} ended {what}, which is a mistake in Keysapart",
        subject=what,
        next_step="report it with the log",
    )
