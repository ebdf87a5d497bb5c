"""Asking a running agent for its status: a Unix socket in the state folder that answers each caller with one document.

Beside it the file that the agent writes now and then, for when none runs.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from common import log
from common.errors import BusyError, ConfigError
from common.private_file import write_file

_SECONDS: Final = 5.0
_SOCKET: Final = "run.sock"
_FILE: Final = "run.json"
_LOCK: Final = "run.lock"
_log = log.get("door")


@contextlib.contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """Be the one agent of this state folder while the block runs.

    Raises:
        BusyError: another one is.
        ConfigError: the folder cannot be used.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
            raise BusyError(
                f"another source-agent run works with the state folder {state_dir}",
                subject=f"folder {state_dir}",
                next_step="end that one, or ask it with source-agent status",
            ) from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def answering(state_dir: Path, document: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Answer whoever asks with ``document()`` while the block runs; the caller holds ``only_one``.

    Raises:
        ConfigError: the socket cannot be made.
    """
    path = state_dir / _SOCKET
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(os.fspath(path))
            path.chmod(0o600)
            listener.listen(8)
        except OSError as error:
            raise ConfigError(
                f"the socket {path} cannot be made ({error.strerror or error})",
                subject=f"file {path}",
                next_step="choose a state_dir on a local file system whose path is shorter than 95 characters",
            ) from error
        thread = threading.Thread(target=_serve, args=(listener, document), name="status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # a close alone would not wake accept
            thread.join()
            path.unlink(missing_ok=True)


def _serve(listener: socket.socket, document: Callable[[], dict[str, Any]]) -> None:
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:
            return
        with caller, contextlib.suppress(OSError):
            caller.settimeout(_SECONDS)
            caller.sendall(json.dumps(document()).encode())


def ask(state_dir: Path) -> dict[str, Any] | None:
    """The status of the agent that runs with this state folder; None when none answers."""
    parts = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(_SECONDS)
            asking.connect(os.fspath(state_dir / _SOCKET))
            while part := asking.recv(1 << 16):
                parts.append(part)
        found: dict[str, Any] = json.loads(b"".join(parts))
    except (OSError, ValueError):
        return None
    return found


def save(state_dir: Path, document: dict[str, Any]) -> None:
    """Leave the document for later, whole or not at all; failing to is logged and no more."""
    try:
        write_file(state_dir / _FILE, json.dumps(document).encode() + b"\n", replace=True)
    except OSError as error:
        _log.warning("the state file was not written", cause=error.strerror)


def load(state_dir: Path) -> dict[str, Any] | None:
    """What the last agent left; None when there is nothing that can be read."""
    try:
        found = json.loads((state_dir / _FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("vms"), list) else None
