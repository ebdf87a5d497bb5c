"""The loop: take an event, decide, start what is due, tell what was missed, and again."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from common import log
from common.cli_edge import notes
from common.clock import Clock
from common.errors import InterruptedSyncError, KeysapartError, ParkedSyncError
from common.ids import ReplicaId
from source_agent.daemon import status
from source_agent.daemon.counts import Counts
from source_agent.daemon.ending import Ending
from source_agent.daemon.events import Ended, Event, Inventory, Reload, Site, Tags, Terminate
from source_agent.daemon.progress import Kept
from source_agent.daemon.settings import Settings
from source_agent.daemon.sites import Sites, reasons_of
from source_agent.daemon.watch import broken
from source_agent.progress import Progress
from source_agent.report import SyncReport
from source_agent.schedule.book import Book, Known
from source_agent.schedule.explain import Running
from source_agent.stop import Stop
from source_agent.vsphere.port import Placement

BEAT_SECONDS: Final = 5.0
"""The loop comes round at least so often."""
_SAVE_SECONDS: Final = 10.0
_log = log.get("run")

Sync = Callable[[Running, Stop, Progress], SyncReport]
"""Syncs a VM; raises KeysapartError."""


@dataclass(frozen=True)
class _UnderWay:
    stop: Stop
    progress: Kept


class Loop:
    """See the module. ``put`` and ``document`` may be called from any thread, ``put`` from signal handlers too.

    Args:
        sync: runs on a thread of its own for each VM.
        settings: what the configuration says at present.
        clock: the time.
        known: what an earlier agent left, by VM.
        save: takes the status document now and then.
        beat: called each time round.
        look: asks for the inventory to be read, and the target to be probed, now.
        parked: the syncs that are parked, as the document tells them.
        tidy: told once which VMs are protected, when that is known for the first time; must not take long.
    """

    def __init__(
        self,
        sync: Sync,
        settings: Settings,
        clock: Clock,
        *,
        known: dict[ReplicaId, Known],
        save: Callable[[dict[str, Any]], None],
        beat: Callable[[], None],
        look: Callable[[], None],
        parked: Callable[[], dict[ReplicaId, status.Parked]],
        tidy: Callable[[frozenset[ReplicaId]], None],
    ) -> None:
        self.counts = Counts()
        self.beaten = clock.monotonic()
        self._sync = sync
        self._settings = settings
        self._clock = clock
        self._known = known
        self._save = save
        self._beat = beat
        self._look = look
        self._parked = parked
        self._tidy: Callable[[frozenset[ReplicaId]], None] | None = tidy
        self._book = Book(settings.limits, clock.monotonic())
        self._began = clock.now()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._lock = threading.Lock()
        """Guards the book between this loop and whoever asks for the document."""
        self._under_way: dict[ReplicaId, _UnderWay] = {}
        self.sites = Sites()
        self._tag_troubles: tuple[str, ...] = ()
        self._ending = Ending()
        self._saved = clock.monotonic()
        self._news = False
        """Something happened that a restarted agent should know."""

    def put(self, event: Event) -> None:
        """Something happened."""
        self._events.put(event)

    def run(self) -> None:
        """Go round until ``Terminate`` and the end of the last sync."""
        while True:
            self.beaten = now = self._clock.monotonic()
            self._beat()
            if self._settings.changed():
                self.put(Reload())
            wake = self._step(now)
            if self._ending.at is not None and not self._under_way:
                break
            self._ending.apply([one.stop for one in self._under_way.values()], now)
            if self._news and now - self._saved >= _SAVE_SECONDS:
                self._keep(now)
            self._wait(wake, now)
        self._keep(self._clock.monotonic())

    def wanted(self, placements: Sequence[Placement]) -> list[ReplicaId]:
        """VMs that the policies select and of which no point is known, here or from before."""
        with self._lock:
            return [
                one.instance_uuid
                for one in placements
                if self._settings.selects(one)
                and not ((known := self._known.get(one.instance_uuid)) and known.point)
                and not ((vm := self._book.vms.get(one.instance_uuid)) and vm.point)
            ]

    def document(self) -> dict[str, Any]:
        """The status document."""
        moment = status.Moment(self._clock.monotonic(), self._clock.now())
        waiting = self._parked()
        with self._lock:
            progress = {replica: one.progress.shown() for replica, one in self._under_way.items()}
            vms = status.rows(self._book, moment, progress, waiting)
            running, held = len(self._book.running), len(self._book.held)
        return {
            "agent": {
                "running": True,
                "stopping": self._book.stopping,
                "began": self._began.isoformat(timespec="seconds"),
                "written": moment.wall.isoformat(timespec="seconds"),
                "target": self.sites.told("target"),
                "vcenter": self.sites.told("vcenter"),
                "config_error": self._settings.error,
                "tags": list(self._tag_troubles),
                "syncs_running": running,
                "syncs_waiting": held,
            },
            "vms": vms,
        }

    # One time round.

    def _step(self, now: float) -> float | None:
        with self._lock:
            step = self._book.step(now)
            for one in step.start:
                self._under_way[one.vm.replica] = _UnderWay(Stop(), Kept(one.vm.name))
        self._news = self._news or bool(step.missed)
        for miss in step.missed:
            _log.warning(
                "RPO missed", vm=miss.name, replica=miss.replica, rpo=miss.rpo, cause=miss.cause, why=miss.sentence
            )
        for one in step.start:
            _log.info("sync begins", vm=one.vm.name, replica=one.vm.replica, compare=one.compare)
            arguments = (one, self._under_way[one.vm.replica])
            threading.Thread(target=self._work, args=arguments, name=f"sync-{one.vm.name}", daemon=True).start()
        return step.wake

    def _work(self, one: Running, under_way: _UnderWay) -> None:
        outcome: SyncReport | KeysapartError
        try:
            outcome = self._sync(one, under_way.stop, under_way.progress)
        except KeysapartError as error:
            outcome = error
        except BaseException as error:  # noqa: BLE001  a thread that ends in silence would leave its VM running for ever
            _log.error("a sync broke", vm=one.vm.name, cause=type(error).__name__, where=log.where(error))
            outcome = broken(error, f"vm {one.vm.name}")
        self.put(Ended(one.vm.replica, outcome))

    def _wait(self, wake: float | None, now: float) -> None:
        """Take the next event, and whatever came with it."""
        until = [now + BEAT_SECONDS, *(at for at in (wake, self._ending.at) if at is not None and at > now)]
        try:
            self._handle(self._events.get(timeout=max(0.0, min(until) - self._clock.monotonic())))
            while True:
                self._handle(self._events.get_nowait())
        except queue.Empty:
            return

    def _keep(self, now: float) -> None:
        self._saved, self._news = now, False
        self._save(self.document())

    # Events.

    def _handle(self, event: Event) -> None:
        match event:
            case Ended():
                self._ended(event)
            case Inventory():
                # One from before a reload may lack tags that policies ask for by now; the next is on its way.
                if self._settings.tags() <= event.tags:
                    self._took_over(event.placements, event.known)
            case Tags():
                self._tags(event)
            case Site():
                self._site(event)
            case Reload():
                self._reload()
            case Terminate():
                self._terminate(event)

    def _ended(self, event: Ended) -> None:
        now = self._clock.monotonic()
        self._news = True
        with self._lock:
            del self._under_way[event.replica]
            name = self._book.running[event.replica].vm.name
            if isinstance(event.outcome, ParkedSyncError):
                self._book.parked(event.replica)
                ended = None
            elif isinstance(event.outcome, KeysapartError):
                self._book.failed(now, event.replica, str(event.outcome), event.outcome.reason)
                ended = None
            else:
                read_all = event.outcome.kind != "delta"
                ended = self._book.finished(
                    now, event.replica, event.outcome.point, read_all=read_all, earlier=event.outcome.snapshot_age
                )
        if isinstance(event.outcome, KeysapartError):
            self._tell_failure(name, event.outcome)
            if self.sites.doubt(event.outcome):
                self._gate()
                self._look()
            return
        self.counts.committed(event.outcome)
        _log.info("point committed", vm=name, said=event.outcome.sentence())
        for text in event.outcome.warnings:
            _log.warning("the sync has a warning", vm=name, said=text)
        if ended is not None:
            _log.info("RPO kept again", vm=name, replica=event.replica)

    def _tell_failure(self, name: str, error: KeysapartError) -> None:
        self.counts.failed(error.reason)
        tell = _log.info if isinstance(error, InterruptedSyncError) else _log.warning
        tell(
            "sync parked" if isinstance(error, ParkedSyncError) else "sync failed",
            vm=name,
            reason=error.reason,
            cause=error.message,
            next_step=error.next_step,
            also=notes(error),
        )

    def _took_over(self, placements: Sequence[Placement], told: Mapping[ReplicaId, Known]) -> None:
        now = self._clock.monotonic()
        with self._lock:
            came, left = self._book.refresh(now, placements, self._settings.policies, {**told, **self._known})
            for replica, known in told.items():
                self._book.learn(replica, known, now)
            protected = frozenset(self._book.vms)
        if self._tidy is not None:
            tidy, self._tidy = self._tidy, None
            tidy(protected)
        self._news = self._news or bool(came or left)
        for vm in came:
            self._known.pop(vm.replica, None)
            _log.info("VM protected", vm=vm.name, replica=vm.replica, rpo=vm.policy.rpo)
        seen = {one.instance_uuid for one in placements}
        for vm in left:
            # Deleted, or hidden from this login: nobody would miss its points otherwise.
            tell, text = (
                (_log.info, "VM no longer protected")
                if vm.replica in seen
                else (_log.warning, "VM no longer in the vCenter, so no longer protected")
            )
            tell(text, vm=vm.name, replica=vm.replica)

    def _tags(self, event: Tags) -> None:
        for text in event.troubles:
            if text not in self._tag_troubles:
                _log.warning("tags are not as the policies want them", said=text)
        if self._tag_troubles and not event.troubles:
            _log.info("tags are as the policies want them again")
        self._tag_troubles = event.troubles

    def _site(self, event: Site) -> None:
        before = self.sites.looked(event.name, event.trouble)
        self._gate()
        if event.trouble is not None and (before is None or before.message != event.trouble.message):
            _log.warning("a site does not answer", site=event.name, cause=event.trouble.message)
        if event.trouble is None and before is not None:
            _log.info("a site answers again", site=event.name)
            with self._lock:
                for reason in reasons_of(event.name):
                    self._book.recovered(self._clock.monotonic(), reason)

    def _gate(self) -> None:
        with self._lock:
            self._book.silent = self.sites.silent

    def _reload(self) -> None:
        if not self._settings.reload():
            return
        with self._lock:
            self._book.limits = self._settings.limits
        self._look()

    def _terminate(self, event: Terminate) -> None:
        settings, syncs = self._settings, len(self._under_way)
        self._book.stopping = True
        self._ending.asked(event, self._clock.monotonic(), grace=settings.stop_grace, parks=settings.parks, syncs=syncs)
