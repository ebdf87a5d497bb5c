"""One process of this agent per VM: an advisory lock on a file in the state folder, gone with its holder.

The file holds the process id while a sync runs, and is emptied when it ends well: what is not empty and not locked is a
sync that did not.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import BusyError, ConfigError, InvalidInputError
from common.ids import ReplicaId, parse_replica


@contextmanager
def vm_lock(state_dir: Path, vm: ReplicaId, name: str) -> Iterator[bool]:
    """Hold the VM ``name`` with id ``vm`` for this process; yields whether the sync before did not end well.

    Raises:
        BusyError: another process on this machine is syncing it.
        ConfigError: the state folder cannot be used.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(state_dir / f"vm-{vm}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"the state folder {state_dir} cannot be used ({error.strerror})",
            subject=f"folder {state_dir}",
            next_step="make it writable for the agent's user, or set another state_dir",
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise BusyError(
                f"another source-agent process (pid {holder}) is syncing VM {name}",
                subject=f"vm {name}",
                next_step="wait until it is done, or end that process",
            ) from None
        left = os.fstat(handle).st_size > 0
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield left
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def unfinished(state_dir: Path) -> list[ReplicaId]:
    """VMs whose last sync from here did not end well, or has not ended yet."""
    found = []
    for path in sorted(state_dir.glob("vm-*.lock")):
        try:
            if path.stat().st_size:
                found.append(parse_replica(path.stem.removeprefix("vm-")))
        except (OSError, InvalidInputError):
            continue
    return found


def held(state_dir: Path) -> list[ReplicaId]:
    """VMs that some process holds at this moment; whoever asks for one in the same instant may be refused once."""
    found = []
    for path in sorted(state_dir.glob("vm-*.lock")):
        try:
            replica = parse_replica(path.stem.removeprefix("vm-"))
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, InvalidInputError):
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append(replica)
        finally:
            os.close(handle)
    return found
