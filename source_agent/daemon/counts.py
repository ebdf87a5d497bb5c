"""What the daemon counts since its start, and the Prometheus metrics of it and of the status document."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from source_agent.report import SyncReport

PREFIX = "keysapart_agent"
_VM = ("vm", "replica")


@dataclass
class Counts:
    """Totals; written by one thread."""

    syncs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind (``unknown`` for those that failed) and result: ``committed``, or the reason of the failure."""
    read_bytes: int = 0
    sent_bytes: int = 0

    def committed(self, report: SyncReport) -> None:
        """A sync ended with a point."""
        self.syncs[report.kind, "committed"] += 1
        self.read_bytes += report.bytes_read
        self.sent_bytes += report.bytes_sent

    def failed(self, reason: str) -> None:
        """A sync ended without one."""
        self.syncs["unknown", reason.lower()] += 1


class Metrics(Collector):
    """Families made anew at each scrape, so that a VM that is gone leaves nothing behind.

    Args:
        document: the status document.
        counts: the totals.
        days_left: of the agent's certificate.
        not_renewed: whether that should have been renewed, and was not.
    """

    def __init__(
        self,
        document: Callable[[], Mapping[str, Any]],
        counts: Counts,
        days_left: Callable[[], float],
        not_renewed: Callable[[], bool],
    ) -> None:
        self._document = document
        self._counts = counts
        self._days_left = days_left
        self._not_renewed = not_renewed

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        document = self._document()
        agent, vms = document["agent"], document["vms"]
        yield from _vm_families(vms)
        syncs = CounterMetricFamily(
            f"{PREFIX}_syncs", "Syncs that ended, by kind and result", labels=("kind", "result")
        )
        for labels, count in sorted(self._counts.syncs.items()):
            syncs.add_metric(labels, count)
        yield syncs
        yield CounterMetricFamily(f"{PREFIX}_read_bytes", "Bytes read from disks", value=self._counts.read_bytes)
        yield CounterMetricFamily(f"{PREFIX}_sent_bytes", "Bytes of frames sent", value=self._counts.sent_bytes)
        for name, text, value in (
            ("vms_protected", "VMs that a policy selects", len(vms)),
            ("syncs_running", "Syncs under way", agent["syncs_running"]),
            ("syncs_waiting", "VMs that are due and wait for a place", agent["syncs_waiting"]),
            ("target_reachable", "1 while the target answers", agent["target"] == "reachable"),
            ("vcenter_reachable", "1 while the vCenter answers", agent["vcenter"] == "reachable"),
            (
                "config_valid",
                "1 unless the configuration that is in the file was refused",
                agent["config_error"] is None,
            ),
            ("certificate_days_left", "Days until the agent's certificate expires", self._days_left()),
            ("certificate_not_renewed", "1 while the certificate should be renewed, and is not", self._not_renewed()),
        ):
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=float(value))


def _vm_families(vms: list[Mapping[str, Any]]) -> Iterator[Metric]:
    age = GaugeMetricFamily(f"{PREFIX}_point_age_seconds", "Age of the VM's newest point", labels=_VM)
    rpo = GaugeMetricFamily(f"{PREFIX}_rpo_seconds", "Age that the VM's newest point may have", labels=_VM)
    late = GaugeMetricFamily(f"{PREFIX}_rpo_missed", "1 while the VM's RPO is missed", labels=_VM)
    missed = CounterMetricFamily(f"{PREFIX}_rpo_misses", "How often the VM's RPO began to be missed", labels=_VM)
    for row in vms:
        labels = (row["vm"], row["replica"])
        if row["age_seconds"] is not None:
            age.add_metric(labels, row["age_seconds"])
        rpo.add_metric(labels, row["rpo_seconds"])
        late.add_metric(labels, float(row["rpo"] == "missed"))
        missed.add_metric(labels, row["missed_total"])
    yield from (age, rpo, late, missed)
