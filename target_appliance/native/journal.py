"""What is known of a replica's failovers, on the appliance: one file for the real one, one for a test.

It is written before each step that it tells of, so a later run finds what may be there; what really is there, the
vCenter says.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common.errors import BusyError, StoreError
from common.ids import DiskKey
from common.private_file import sync_folder, write_file


@dataclass(frozen=True, slots=True)
class State:
    """One failover."""

    failover: str
    """Its id: the marker of its VM."""
    name: str
    """The VM's."""
    point: int
    test: bool
    written: tuple[DiskKey, ...] = ()
    """Disks, by their keys at the source, of which every byte is durable."""
    running: bool = False
    """It is complete: the VM was started."""
    moref: str = ""
    """The VM's, once it was seen: a clone bears the same marker."""

    def with_disk(self, disk: DiskKey) -> "State":
        """The same, with one more disk complete."""
        return replace(self, written=(*self.written, disk))

    def without_disk(self, disk: DiskKey) -> "State":
        """The same, with that disk to be written (again)."""
        return replace(self, written=tuple(one for one in self.written if one != disk))


class Journal:
    """The file of a replica's failover, or of its test; held while in use."""

    def __init__(self, folder: Path, replica: str, *, test: bool) -> None:
        self._path = folder / f"{replica}.{'test' if test else 'live'}.json"
        self._folder = folder

    def read(self) -> State | None:
        """What is known; None for nothing.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            return self._read(self._path)
        except FileNotFoundError:
            return None

    def _read(self, path: Path) -> State:
        try:
            found = json.loads(path.read_bytes())
            return State(**(found | {"written": tuple(found["written"])}))
        except FileNotFoundError:
            raise
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{path} cannot be read ({type(error).__name__})",
                subject=f"file {path.name}",
                next_step="look at the vCenter for a VM with keysapart.failover in its settings, then remove the file",
            ) from error

    def write(self, state: State) -> None:
        """Make it durable."""
        write_file(self._path, json.dumps(asdict(state)).encode(), replace=True)

    def forget(self) -> None:
        """There is nothing (any more)."""
        self._path.unlink(missing_ok=True)
        sync_folder(self._folder)

    def set_aside(self, state: State) -> None:
        """Keep what is known of a failover under its own id, since another one is about to take its place."""
        write_file(self._aside(state), json.dumps(asdict(state)).encode(), replace=True)

    def aside(self) -> tuple[State, ...]:
        """Failovers that others took the place of."""
        return tuple(self._read(path) for path in sorted(self._folder.glob(f"{self._path.stem}-*.json")))

    def drop(self, state: State) -> None:
        """Forget one of those."""
        self._aside(state).unlink(missing_ok=True)

    def _aside(self, state: State) -> Path:
        return self._path.with_name(f"{self._path.stem}-{state.failover}.json")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises BusyError when another command works on it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(self._path.with_suffix(".lock")) as lock:
            self._lock(lock)
            yield

    def _lock(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                "another command works on this failover",
                subject=f"file {self._path.name}",
                next_step="wait for its end",
            ) from None

    @contextmanager
    def attaching(self) -> Iterator[None]:
        """Hold while a disk comes to the appliance's VM; waits for failovers of whatever replica that do.

        A disk's device is the one that was not there before, so no other may come meanwhile.
        """
        with _opened(self._folder.with_name("attaching.lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
