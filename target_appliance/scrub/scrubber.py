"""Looks at points one after the other, and notes what it found.

Nothing is ever removed or changed because of it: a bad point stays, is told of, and waits for its files to be put back.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from common import log
from common.clock import Clock
from common.errors import DamagedError, KeyNotUsableError, KeysapartError, KmsUnavailableError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import ScrubRow
from target_appliance.recovery import names, points
from target_appliance.recovery.findings import Collector, Finding, Kind, Place
from target_appliance.recovery.inventory import Inventory, readable
from target_appliance.recovery.types import PointRecord
from target_appliance.recovery.vault import Vault
from target_appliance.recovery.verify_sealed import SealedDisk
from target_appliance.recovery.verify_stored import StoredPoint, check_record, store_watched
from target_appliance.scrub.choice import Due, PointKey, next_points
from target_appliance.scrub.state import State, affected, sentence, verdict, worst

_log = log.get("scrub")

_SAVE_SECONDS: Final = 30.0
"""Of work that a crash may cost."""
_MOST_WHAT: Final = 1000


class Paused(Exception):  # noqa: N818  nothing is wrong
    """A look is to stop where it is, and to go on some other time."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A point whose state is another than before, or that was bad at its first look."""

    row: ScrubRow
    before: str | None
    affects: tuple[PointNumber, ...]
    """Points that cannot be trusted while it is bad; none when it is good."""


@dataclass(frozen=True, slots=True)
class _Look:
    findings: tuple[Finding, ...]
    with_key: bool


class Scrubber:
    """One look at a time; for one thread.

    Args:
        vault: where points lie.
        catalog: knows which there should be, and keeps what was found.
        clock: for times.
        pace: told of bytes that were read: holds them to a budget, and raises Paused to stop.
        with_key: open what is sealed as well, where keys are given out.
        told: of each change.
    """

    def __init__(
        self,
        vault: Vault,
        catalog: Catalog,
        clock: Clock,
        *,
        pace: Callable[[int], None],
        with_key: bool,
        told: Callable[[Changed], None],
    ) -> None:
        self._vault = vault
        self._catalog = catalog
        self._clock = clock
        self._pace = pace
        self._with_key = with_key
        self._told = told
        self._saved = 0.0

    def due(self, when: Due, replica: tuple[TenantId, ReplicaId] | None = None) -> tuple[PointKey, ...]:
        """Points that are due, in order, of all replicas or of one; what was noted of points that went is forgotten.

        Raises:
            StoreError: store or catalog cannot be read.
        """
        taken = self._taken()
        rows = self._catalog.scrubs()
        for row in rows:
            if (row.tenant, row.replica, row.number) not in taken:
                self._catalog.forget_scrub(row)
        found = next_points(taken, rows, when, self._clock.now().timestamp())
        return tuple(key for key in found if replica is None or key[:2] == replica)

    def look(self, key: PointKey) -> ScrubRow | None:
        """Look at one point, from where an earlier look stopped; None when it went away meanwhile, as it should.

        Raises:
            Paused: ``pace`` did; how far it came is noted.
            StoreError: the catalog cannot be written.
        """
        tenant, replica, number = key
        rows = self._catalog.scrubs(tenant)
        here = next((one for one in rows if (one.replica, one.number) == (replica, number)), None)
        row = here or ScrubRow(tenant, replica, number)
        before = State.GOOD if row.so_far is None else State(row.so_far)
        found = self._looked(row, before, None if row.mark is None else (row.mark, row.mark_offset))
        state = worst([before, verdict(found.findings)])
        if state in {State.CORRUPT, State.MISSING} and row.mark is None:
            # Once more before anybody is woken: points are dropped, merged and repaired meanwhile. Only after a look
            # that was whole: one that the budget cuts every night would never end.
            found = self._looked(row, State.GOOD, None)
            state = verdict(found.findings)
        if key not in self._taken():
            self._catalog.forget_scrub(row)
            return None
        ended = ScrubRow(
            tenant,
            replica,
            number,
            state.value,
            int(self._clock.now().timestamp()),
            found.with_key,
            "" if state is State.GOOD else (sentence(found.findings) or row.what)[:_MOST_WHAT],
        )
        self._catalog.put_scrub(ended)
        if state != (row.state or State.GOOD):
            disks = {finding.disk for finding in found.findings} or {None}
            hit = () if state is State.GOOD else affected(number, disks, self._records(tenant, replica))
            self._told(Changed(ended, row.state, hit))
        return ended

    def _looked(self, row: ScrubRow, before: State, mark: tuple[str, int] | None) -> _Look:
        """Both halves of a look; a mark that does not come is not believed."""
        collector = Collector(row.replica, _unseen, pace=lambda count: self._paced(row, before, collector, count))
        collector.mark = mark
        self._saved = self._clock.monotonic()
        opened = self._compare(row, collector)
        if collector.mark is not None:
            return self._looked(row, before, None)
        return _Look(tuple(collector.found), opened)

    def _compare(self, row: ScrubRow, collector: Collector) -> bool:
        tenant, replica, number = row.tenant, row.replica, row.number
        place = Place(collector, names.RECORD_FILE, number)
        there = False
        with store_watched(place):
            there = number in points.folders(self._vault.store, tenant, replica)
            if not there:
                place.add(Kind.MISSING, "the point is not in the store")
        if not there:
            collector.mark = None
            return False
        store = self._vault.store
        record = check_record(store, tenant, replica, number, False, collector)
        have = readable(store, tenant, replica)
        StoredPoint(store, tenant, replica, number, collector, have).check()
        return self._with_key and record is not None and self._open(record, have, collector)

    def _open(self, record: PointRecord, have: Inventory, collector: Collector) -> bool:
        """Whether all of it was opened; keys that are not given out now are no fault of the point's."""
        for disk in record.disks:
            if (record.number, disk.spec.key) not in have.needed:
                continue
            try:
                key = self._vault.keyring.open(record.tenant, record.replica, disk.spec.key, disk.key_epoch)
            except DamagedError as error:
                Place(collector, names.REPLICA_FILE, None, disk.spec.key).add(Kind.CORRUPT, error.message)
            except (KeyNotUsableError, KmsUnavailableError) as error:
                _log.info("only stored bytes were compared", replica=record.replica, cause=error.message)
                collector.mark = None
                return False
            else:
                absorbed = [have.records[one] for one in have.absorbed(record.number, disk.spec.key)]
                SealedDisk(self._vault.store, record, disk, key, collector, absorbed).check()
        return True

    def _paced(self, row: ScrubRow, before: State, collector: Collector, count: int) -> None:
        try:
            self._pace(count)
        except Paused:
            self._save(row, before, collector)
            raise
        if self._clock.monotonic() - self._saved >= _SAVE_SECONDS:
            self._save(row, before, collector)

    def _save(self, row: ScrubRow, before: State, collector: Collector) -> None:
        self._saved = self._clock.monotonic()
        if collector.mark is None and collector.passed is not None:
            so_far = worst([before, verdict(collector.found)])
            mark, offset = collector.passed
            what = (sentence(collector.found) or row.what)[:_MOST_WHAT]
            kept = dataclasses.replace(row, so_far=so_far.value, what=what, mark=mark, mark_offset=offset)
            self._catalog.put_scrub(kept)

    def _taken(self) -> dict[PointKey, int]:
        """Every point that there is, or should be, with its snapshot's time; 0 where only the store knows it."""
        found: dict[PointKey, int] = {}
        for tenant in self._catalog.tenants():
            for replica in self._vault.replicas(tenant):
                for number in points.folders(self._vault.store, tenant, replica):
                    found[tenant, replica, number] = 0
            for one in self._catalog.replicas(tenant):
                for point in self._catalog.points(tenant, one.replica):
                    found[tenant, one.replica, point.number] = point.time
        return found

    def _records(self, tenant: TenantId, replica: ReplicaId) -> dict[PointNumber, PointRecord]:
        return dict(_readable(self._vault, tenant, replica))


def _readable(vault: Vault, tenant: TenantId, replica: ReplicaId) -> Iterable[tuple[PointNumber, PointRecord]]:
    for number in vault.point_numbers(tenant, replica):
        try:
            yield number, vault.point(tenant, replica, number)
        except KeysapartError:
            continue


def _unseen(_bytes: int) -> None:
    """Nobody watches."""
