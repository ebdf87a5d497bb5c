"""The port's driver over VDDK: a worker process for each open disk, and the VM held where it is meanwhile."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from common import log
from common.clock import Clock
from common.errors import KeysapartError, PreconditionError, SourceError
from source_agent.disk_read.vddk.disk import VddkDisk
from source_agent.disk_read.vddk.install import write_config
from source_agent.disk_read.vddk.marks import ATTACHED, PREPARED, Mark, name_of, orphans
from source_agent.disk_read.vddk.process import SILENCE_SECONDS, WorkerProcess
from source_agent.vsphere.port import DiskInfo, Snapshot

IDENTITY_BYTES: Final = 50
"""The most that PrepareForAccess takes."""

_log = log.get("vddk")


@dataclass(frozen=True, slots=True)
class VddkSettings:
    """The library and the login. The login's parts are asked for whenever a disk is opened, and kept nowhere."""

    library: Path
    """libvixDiskLib.so.N itself."""
    root: Path
    """The unpacked folder."""
    mode: Literal["nbdssl", "hotadd"]
    """The only two ways on which encrypted VMs can be read."""
    server: str
    port: int
    data_port: int
    """Of ESXi hosts."""
    user: str
    password: Callable[[], str]
    thumbprint: Callable[[], str]
    """SHA-1 of the vCenter's certificate, which the caller has verified."""
    identity: str
    """Who holds VMs where they are: the same for an agent for ever."""


class VddkReader:
    """See ``port.BlockReader``. Methods may be called from any thread.

    Args:
        settings: library and login.
        state_dir: configuration, temporary files and marks go into its folder ``vddk``.
        clock: for pauses between attempts.
        silence_seconds: how long a worker may be silent while it is asked something.
    """

    def __init__(
        self, settings: VddkSettings, state_dir: Path, clock: Clock, *, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self._settings = settings
        self._folder = state_dir / "vddk"
        self._clock = clock
        self._silence_seconds = silence_seconds

    def open(self, snapshot: Snapshot, disk: DiskInfo) -> VddkDisk:
        """See BlockReader."""
        subject = f"disk {disk.key}"
        mark = Mark(self._folder, ATTACHED, str(uuid.uuid4())) if self._settings.mode == "hotadd" else None
        release = mark.remove if mark else _nothing
        try:
            return VddkDisk(
                lambda: self._opened(snapshot, disk, subject), disk.capacity_bytes, subject, self._clock, release
            )
        except BaseException:
            release()
            raise

    @contextmanager
    def held(self, vm: str) -> Iterator[None]:
        """See BlockReader. Where the library refuses, the sync goes on without."""
        mark = Mark(self._folder, PREPARED, vm)
        held = self._on_vm("PrepareForAccess", vm)
        try:
            yield
        finally:
            if not held or self._on_vm("EndAccess", vm):
                mark.remove()
            else:
                mark.leave()

    def release_leftovers(self) -> int:
        """See BlockReader: VMs that a crashed process kept from being moved, disks that it left attached."""
        with orphans(self._folder, PREPARED) as prepared:
            for mark in prepared:
                if self._on_vm("EndAccess", name_of(mark)):
                    mark.unlink()
        with orphans(self._folder, ATTACHED) as attached:
            if not attached:
                return 0
            worker = self._worker("vddk")
            try:
                done = worker.ask("Cleanup", "disks of an earlier process cannot be detached", **self._login())
            finally:
                worker.close()
            for mark in attached:
                mark.unlink()
        return int(done["cleaned"])

    def close(self) -> None:
        """See BlockReader; every disk ends its own worker."""

    def _worker(self, subject: str) -> WorkerProcess:
        settings = self._settings
        config = write_config(self._folder)
        return WorkerProcess(settings.library, settings.root, config, subject, silence_seconds=self._silence_seconds)

    def _login(self) -> dict[str, Any]:
        """For the worker's socket only: never log it."""
        settings = self._settings
        return {
            "server": settings.server,
            "port": settings.port,
            "data_port": settings.data_port,
            "user": settings.user,
            "password": settings.password(),
            "thumbprint": settings.thumbprint(),
            "identity": os.fsencode(settings.identity)[:IDENTITY_BYTES].decode("ascii", "ignore"),
        }

    def _opened(self, snapshot: Snapshot, disk: DiskInfo, subject: str) -> WorkerProcess:
        wanted = self._settings.mode
        login = self._login()
        worker = self._worker(subject)
        try:
            told = worker.ask(
                "open",
                f"{disk.label or subject} cannot be opened over {wanted}",
                vm=snapshot.vm,
                snapshot=snapshot.moref,
                path=disk.backing_path,
                mode=wanted,
                **login,
            )
            _require(told, wanted, disk, subject)
        except BaseException:
            worker.close()
            raise
        _log.debug("disk opened", disk=disk.key, transport=told["mode"], worker=worker.pid)
        return worker

    def _on_vm(self, name: str, vm: str) -> bool:
        """PrepareForAccess or EndAccess of a VM; False, and a line in the log, when it fails."""
        try:
            worker = self._worker(f"vm {vm}")
            try:
                worker.ask(name, f"{name} of VM {vm} failed", vm=vm, **self._login())
            finally:
                worker.close()
        except KeysapartError as error:
            _log.warning("the VM's right to be moved could not be changed", vm=vm, cause=error.message)
            return False
        return True


def _nothing() -> None:
    pass


def _require(told: dict[str, Any], wanted: str, disk: DiskInfo, subject: str) -> None:
    """Refuse another transport than was asked for, which no call of the library reports as a failure."""
    if told["mode"] != wanted:
        raise PreconditionError(
            f"{disk.label or subject} was asked for over {wanted}, and the library opened it over {told['mode']}",
            subject=subject,
            next_step="set transport to vddk-nbdssl, or make the agent's VM one that the disk can be added to"
            " (encrypted, on a host that sees the datastore)",
        )
    if told["capacity"] < disk.capacity_bytes:
        raise SourceError(
            f"{subject} shows {told['capacity']} bytes where the snapshot has {disk.capacity_bytes}",
            subject=subject,
            next_step="run the sync again; if it fails again, check the datastore and the VM's disk chain",
        )
