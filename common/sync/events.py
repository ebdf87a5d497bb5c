"""What happens on a write stream, as frozen values. The wire types are read and written in ``codec.py`` only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.grain import DIGEST_BYTES, GRAIN_BYTES, GrainKind
from common.ids import DiskKey, SyncId

MAX_BATCH_GRAINS = 256
"""Most grain records in one batch."""

MAX_FRAME_BYTES = 2 << 20
"""Largest serialised frame."""

WINDOW_BYTES = 64 << 20
"""Most data bytes under way without an ack; also the most that a cut can cost."""

PROTOCOL_VERSION = 1


class GrainRecord(NamedTuple):
    """One grain: its index on the disk, how it is carried, BLAKE3-128 of its plaintext, the carried bytes."""

    grain: int
    kind: GrainKind
    digest: bytes
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Open:
    """First frame of a stream: which disk of which sync."""

    sync: SyncId
    disk: DiskKey
    answer_each: bool = False
    """Wants an ack for every batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some grains; ``sequence`` counts batches of the stream from 1."""

    sequence: int
    records: Sequence[GrainRecord]

    @property
    def data_bytes(self) -> int:
        """Carried bytes, without framing."""
        return sum(len(record.data) for record in self.records)


@dataclass(frozen=True, slots=True)
class Done:
    """Last frame: what was sent in all, so that a loss shows."""

    batches: int
    grains: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Batches up to ``durable_sequence`` are sealed on stable storage; ``done`` answers Done."""

    durable_sequence: int
    done: bool = False
    kept_sequence: int = 0
    """Batches up to here are sealed, though not all on stable storage; never below ``durable_sequence``."""


def record_fits(record: GrainRecord) -> bool:
    """Whether kind, data length and digest length of a record belong together."""
    size = len(record.data)
    match record.kind:
        case GrainKind.ZERO:
            fits = size == 0
        case GrainKind.RAW:
            fits = size == GRAIN_BYTES
        case GrainKind.LZ4:
            fits = 0 < size < GRAIN_BYTES
    return fits and len(record.digest) == DIGEST_BYTES
