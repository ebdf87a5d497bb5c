"""Looks at points one after the other, and notes what it found.

Nothing is ever removed or changed because of it: a bad point stays, is told of, and waits for its files to be put back.
"""

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import ExitStack
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
from target_appliance.recovery.reading import reading
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
    state: State
    """The worst that it met, before cuts too."""
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
            BusyError: the replica's files are being moved for too long.
            StoreError: the catalog cannot be written.
        """
        tenant, replica, number = key
        rows = self._catalog.scrubs(tenant)
        here = next((one for one in rows if (one.replica, one.number) == (replica, number)), None)
        row = here or ScrubRow(tenant, replica, number)
        found = self._looked(row)
        if _bad(found.state) and not row.again:
            # Once more before anybody is woken: points are dropped and repaired meanwhile. That look may be cut too,
            # and goes on as the second.
            row = dataclasses.replace(row, so_far=None, mark=None, mark_offset=0, again=True)
            self._catalog.put_scrub(row)
            found = self._looked(row)
        state = found.state
        if not self._is_taken(key):
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

    def _looked(self, row: ScrubRow) -> _Look:
        """Both halves of a look, from the row's mark; one that does not come is not believed."""
        before = State.GOOD if row.so_far is None else State(row.so_far)
        collector = Collector(row.replica, _unseen, pace=lambda count: self._paced(row, before, collector, count))
        collector.mark = None if row.mark is None else (row.mark, row.mark_offset)
        self._saved = self._clock.monotonic()
        opened = self._compare(row, collector)
        if collector.mark is not None:
            return self._looked(dataclasses.replace(row, so_far=None, mark=None, mark_offset=0))
        findings = tuple(collector.found)
        return _Look(worst([before, verdict(findings)]), findings, opened)

    def _compare(self, row: ScrubRow, collector: Collector) -> bool:
        tenant, replica, number = row.tenant, row.replica, row.number
        store = self._vault.store
        place = Place(collector, names.RECORD_FILE, number)
        with ExitStack() as life:
            there = False
            with store_watched(place):
                try:
                    life.enter_context(reading(store, tenant, replica))
                except DamagedError as error:
                    place.add(Kind.CORRUPT, error.message)
                there = number in points.folders(store, tenant, replica)
                if not there:
                    place.add(Kind.MISSING, "the point is not in the store")
            if not there:
                collector.mark = None
                return False
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
                for number, time in self._known(tenant, one.replica).items():
                    found[tenant, one.replica, number] = time
        return found

    def _is_taken(self, key: PointKey) -> bool:
        """Whether ``_taken`` has it, without asking about others."""
        tenant, replica, number = key
        return tenant in self._catalog.tenants() and (
            number in points.folders(self._vault.store, tenant, replica) or number in self._known(tenant, replica)
        )

    def _known(self, tenant: TenantId, replica: ReplicaId) -> dict[PointNumber, int]:
        """Points that the catalog knows, with their times, but for those of which a merge left only the record."""
        gone = points.recorded(self._vault.store, tenant, replica)
        return {one.number: one.time for one in self._catalog.points(tenant, replica) if one.number not in gone}

    def _records(self, tenant: TenantId, replica: ReplicaId) -> dict[PointNumber, PointRecord]:
        return dict(_readable(self._vault, tenant, replica))


def _bad(state: State) -> bool:
    return state in {State.CORRUPT, State.MISSING}


def _readable(vault: Vault, tenant: TenantId, replica: ReplicaId) -> Iterable[tuple[PointNumber, PointRecord]]:
    for number in vault.point_numbers(tenant, replica):
        try:
            yield number, vault.point(tenant, replica, number)
        except KeysapartError:
            continue


def _unseen(_bytes: int) -> None:
    """Nobody watches."""
