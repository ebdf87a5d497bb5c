"""The right of one stream to write one disk, which ends with the stream, or when the sync is resumed without it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from common.errors import FencedError, KeysapartError, TargetUnavailableError
from common.ids import DiskKey
from common.sync.events import GrainRecord
from target_appliance.recovery.disk_writer import SealedDiskWriter

_PATIENCE_SECONDS: Final = 10.0
"""How long a write that is under way is waited for; well below the deadline of whoever asks."""


@dataclass(eq=False)
class Claim:
    """Writes the disk for its stream. Each call is whole before ``revoke`` returns, or refused after it."""

    disk: DiskKey
    stream: Any
    """The call, which has ``cancel``."""
    writer: SealedDiskWriter
    revoked: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def append(self, records: list[GrainRecord]) -> None:
        """See receiver.Disk."""
        with self._held():
            self.writer.append(records)

    def sync(self) -> None:
        """See receiver.Disk."""
        with self._held():
            self.writer.sync()

    def finish(self) -> None:
        """See receiver.Disk."""
        with self._held():
            self.writer.finish()

    def rest(self) -> None:
        """The stream is over; does nothing when the disk has another already."""
        with suppress(FencedError), self._held():
            self.writer.rest()

    def spoil(self) -> None:
        """Let go of files and memory for good."""
        with suppress(KeysapartError):
            self.writer.close()

    def revoke(self) -> None:
        """End the stream; returns when nothing of it can reach the disk any more.

        Raises:
            TargetUnavailableError: a write of it is still under way.
        """
        self.revoked = True
        with suppress(Exception):  # the call may be over, or no call of gRPC's
            self.stream.cancel()
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            raise TargetUnavailableError(
                f"disk {self.disk} is still being written to the store",
                subject=f"disk {self.disk}",
                next_step="ask again in a moment; if it lasts, check the store's disks",
            )
        self._lock.release()

    @contextmanager
    def _held(self) -> Iterator[None]:
        with self._lock:
            if self.revoked:
                raise FencedError(
                    f"disk {self.disk} is written by a newer stream",
                    subject=f"disk {self.disk}",
                    next_step="ask for the sync's progress",
                )
            yield
