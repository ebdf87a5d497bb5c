"""What became of a sync, as a value that prints as text and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from common.ids import DiskKey, PointNumber, ReplicaId
from source_agent.expect import Expectation


@dataclass(frozen=True, slots=True)
class DiskReport:
    """One disk's share; grains are counts, the rest bytes. ``bytes_sent`` is the wire's, framing included."""

    key: DiskKey
    label: str
    kind: str
    rule: str
    capacity_bytes: int
    bytes_read: int
    bytes_sent: int
    grains_sent: int
    grains_zero: int
    grains_unchanged: int
    suspicion: str | None
    """Signs that the guest encrypts this disk itself, in words."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """A committed sync."""

    vm: str
    replica: ReplicaId
    point: PointNumber
    kind: str
    bytes_read: int
    bytes_sent: int
    stored_bytes: int
    seconds: float
    consistency: str
    expected: Expectation
    """What was said of the sync before its first byte was read."""
    disks: tuple[DiskReport, ...]
    warnings: tuple[str, ...]
    resumed: bool = False
    """It went on with a sync that another process had begun: the point holds that one's snapshot."""
    snapshot_age: float = 0.0
    """Seconds that the snapshot had stood when this sync began; 0 unless it was resumed."""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``: the field names are the documented ones."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}

    def sentence(self) -> str:
        """For people."""
        mib = 1 << 20
        return (
            f"{self.vm}: point {self.point} ({self.kind}) committed, read {self.bytes_read / mib:.1f} MiB,"
            f" sent {self.bytes_sent / mib:.1f} MiB, stored {self.stored_bytes / mib:.1f} MiB in {self.seconds:.1f} s"
        )
