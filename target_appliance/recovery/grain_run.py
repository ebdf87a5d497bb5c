"""Grains sealed behind one another into one buffer, as they will stand in an extent."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from common.grain import ZERO_DIGEST, GrainKind
from common.sync.events import GrainRecord
from target_appliance.recovery.journal import ENTRY
from target_appliance.seal.grain import NONCE_BYTES, OVERHEAD_BYTES, PAYLOAD_MOST_BYTES, GrainSealer
from target_appliance.seal.keys import Entropy
from target_appliance.seal.manifest import RECORD
from target_appliance.vmdk.layout import GRAIN_MARKER, GRAIN_SECTORS, SECTOR_BYTES, grain_record_bytes

RUN_GRAINS: Final = 32
"""Most grains in a run, which is written by one call: about 2 MiB."""

_PADDING: Final = bytes(SECTOR_BYTES)


class GrainRun(NamedTuple):
    """A run, and what is to be noted of it."""

    placed: list[tuple[int, int]]
    """Of each grain the index within its extent and the bytes of its record, none of one that is zeros."""
    records: memoryview
    """All records; valid until the next run is sealed."""
    manifest: bytes
    journal: bytes


class RunSealer:
    """Seals the runs of one disk, one at a time into the same buffer. Not thread-safe."""

    def __init__(self, sealer: GrainSealer, entropy: Entropy) -> None:
        self._sealer = sealer
        self._entropy = entropy
        self._buffer = memoryview(b"")

    def seal(self, records: Sequence[GrainRecord], first: int) -> GrainRun:
        """Seal at most RUN_GRAINS grains, which rise, for the extent whose first grain is ``first``."""
        nonces = self._entropy(NONCE_BYTES * len(records))
        if not self._buffer:
            self._buffer = memoryview(bytearray(RUN_GRAINS * grain_record_bytes(PAYLOAD_MOST_BYTES)))
        buffer, at = self._buffer, 0
        placed: list[tuple[int, int]] = []
        manifest: list[bytes] = []
        journal: list[bytes] = []
        for place, (grain, kind, digest, data) in enumerate(records):
            if kind is GrainKind.ZERO:
                placed.append((grain - first, 0))
                manifest.append(RECORD.pack(grain, ZERO_DIGEST))
                journal.append(ENTRY.pack(grain, 0, ZERO_DIGEST))
                continue
            payload = len(data) + OVERHEAD_BYTES
            begin = at + GRAIN_MARKER.size
            end = begin + payload
            stop = at + grain_record_bytes(payload)
            GRAIN_MARKER.pack_into(buffer, at, (grain - first) * GRAIN_SECTORS, payload)
            nonce = nonces[place * NONCE_BYTES : (place + 1) * NONCE_BYTES]
            self._sealer.seal_into(buffer[begin:end], grain, kind, data, nonce)
            buffer[end:stop] = _PADDING[: stop - end]
            placed.append((grain - first, stop - at))
            manifest.append(RECORD.pack(grain, digest))
            journal.append(ENTRY.pack(grain, stop - at, digest))
            at = stop
        return GrainRun(placed, buffer[:at], b"".join(manifest), b"".join(journal))

    def rest(self) -> None:
        """Let go of the buffer until the next run: a VM may have 256 disks."""
        self._buffer = memoryview(b"")
