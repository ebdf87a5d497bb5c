"""How far a sync of the daemon is: kept for whoever asks, not shown."""

from typing import Any

from common import log
from source_agent.disk_sync import DiskTask
from source_agent.pipeline import DiskCount

_log = log.get("sync")


class Kept:
    """See ``source_agent.progress.Progress``; read from other threads."""

    def __init__(self, vm: str) -> None:
        self._vm = vm
        self._step = "starting"
        self._disks: tuple[tuple[int, DiskCount], ...] = ()

    def say(self, text: str) -> None:
        """See Progress."""
        self._step = text.removeprefix(f"{self._vm}: ")
        _log.debug("step", vm=self._vm, step=self._step)

    def disk(self, task: DiskTask, total_bytes: int, count: DiskCount) -> None:
        """See Progress."""
        del task
        self._disks += ((total_bytes, count),)

    def shown(self) -> dict[str, Any]:
        """For the status document."""
        disks = self._disks
        return {
            "step": self._step,
            "bytes_read": sum(count.bytes_read for _, count in disks),
            "bytes_total": sum(total for total, _ in disks),
        }
