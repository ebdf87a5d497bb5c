"""Prometheus metrics of the appliance: what its provider alerts on."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common import log
from common.clock import Clock, days_left
from common.errors import KeysapartError
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import ReplicaRow, ScrubRow
from target_appliance.retention.clock import TrustedTime
from target_appliance.retention.steward import Key, Seen, Steward
from target_appliance.store.port import Store

PREFIX: Final = "keysapart_appliance"
_REPLICA: Final = ("tenant", "replica", "vm")

_log = log.get("metrics")


class Shown(Protocol):
    """What the appliance shows in TLS; see ServerCredentials."""

    @property
    def not_after(self) -> datetime:
        """When the server's certificate ends."""
        ...

    @property
    def authority_not_after(self) -> datetime:
        """When the authority ends that issues certificates now."""
        ...

    @property
    def failing(self) -> bool:
        """Whether certificates could not be read or renewed at the last look."""
        ...


class Metrics(Collector):
    """Families made anew at each scrape, so that a replica that is gone leaves nothing behind.

    What cannot be told now is left out, and the rest told.

    Args:
        catalog: of replicas and syncs.
        store: where points lie.
        shown: the appliance's certificates.
        clock: for ages.
        steward: of retention.
        time: that retention counts by.
    """

    def __init__(  # noqa: PLR0917  whatever there is to tell of
        self, catalog: Catalog, store: Store, shown: Shown, clock: Clock, steward: Steward, time: TrustedTime
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._shown = shown
        self._clock = clock
        self._steward = steward
        self._time = time

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield from _told(self._certificates)
        yield from _told(lambda: [_gauge("store_free_bytes", "Bytes free in the store", self._store.free_bytes())])
        yield from _told(lambda: [_gauge("syncs_open", "Syncs under way", len(self._catalog.live_syncs()))])
        yield from _told(lambda: [scrub_family(self._catalog.scrubs())])
        yield from _told(lambda: replica_families(self._catalog.replicas(), self._clock.now().timestamp()))
        text = "Seconds that the machine's clock is ahead of the time that retention and locks count by"
        yield from _told(lambda: [_gauge("retention_clock_ahead_seconds", text, self._time.lag())])
        yield from retention_families(self._steward.seen)

    def _certificates(self) -> list[Metric]:
        left = GaugeMetricFamily(
            f"{PREFIX}_certificate_days_left", "Days until a certificate of the appliance ends", labels=("certificate",)
        )
        now = self._clock.now()
        for name, end in (("server", self._shown.not_after), ("authority", self._shown.authority_not_after)):
            left.add_metric((name,), days_left(end, now))
        text = "1 while certificates cannot be read or renewed, so that the old ones stay"
        return [left, _gauge("certificate_not_reloaded", text, float(self._shown.failing))]


def scrub_family(rows: Iterable[ScrubRow]) -> Metric:
    """How many points of each replica are in which state; what was never looked at is not counted."""
    family = GaugeMetricFamily(
        f"{PREFIX}_scrubbed_points",
        "Points by what the scrub's last look found: good, corrupt, missing, unreachable",
        labels=("tenant", "replica", "state"),
    )
    for labels, count in sorted(Counter((row.tenant, row.replica, row.state) for row in rows if row.state).items()):
        family.add_metric([str(label) for label in labels], count)
    return family


def replica_families(rows: Iterable[ReplicaRow], now: float) -> list[Metric]:
    """What the catalog knows of each replica.

    Args:
        rows: the replicas.
        now: seconds since 1970-01-01 UTC.
    """
    age = GaugeMetricFamily(f"{PREFIX}_point_age_seconds", "Age of the replica's newest point", labels=_REPLICA)
    points = GaugeMetricFamily(f"{PREFIX}_points", "Recovery points of the replica", labels=_REPLICA)
    stored = GaugeMetricFamily(f"{PREFIX}_stored_bytes", "Bytes of the replica's points in the store", labels=_REPLICA)
    for row in rows:
        labels = (row.tenant, row.replica, row.vm_name)
        if row.newest_time is not None:
            age.add_metric(labels, now - row.newest_time)
        points.add_metric(labels, row.points)
        stored.add_metric(labels, row.stored_bytes)
    return [age, points, stored]


def retention_families(seen: Mapping[Key, Seen]) -> list[Metric]:
    """What retention saw of each replica at its last look."""
    texts = {
        "points_last_day": "Points that were committed within a day",
        "empty_points_last_day": "Those of them that hold nothing of any disk",
        "droppable_points": "Points that no rule keeps",
    }
    families = {name: GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=_REPLICA[:2]) for name, text in texts.items()}
    for key, one in tuple(seen.items()):
        families["points_last_day"].add_metric(key, one.points_last_day)
        families["empty_points_last_day"].add_metric(key, one.empty_points_last_day)
        families["droppable_points"].add_metric(key, one.droppable)
    return list(families.values())


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _told(ask: Callable[[], Iterable[Metric]]) -> Iterable[Metric]:
    try:
        return ask()
    except KeysapartError as error:
        _log.warning("a metric cannot be told", cause=error.message)
        return ()
