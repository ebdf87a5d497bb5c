"""Where a view's clients connect: a private Unix socket, or a TCP port."""

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.address import HostPort, split
from common.errors import AlreadyExistsError, BusyError, InvalidInputError, NotFoundError, PreconditionError
from target_appliance.present.clients import Clients

_PATH_MOST_BYTES: Final = 107
_BACKLOG: Final = 512
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_RETRY_SECONDS: Final = 0.2


@contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """Listen on a new socket that only its owner may use; it is removed at the end.

    Raises:
        InvalidInputError: the path is too long for a socket.
        NotFoundError: its folder is not there.
        AlreadyExistsError: something bears that name.
        PreconditionError: others may rename what lies in the folder.
    """
    if len(os.fsencode(path)) > _PATH_MOST_BYTES:
        raise InvalidInputError(
            f"the path {path} is longer than the {_PATH_MOST_BYTES} bytes that a socket's may have",
            subject=f"file {path}",
            next_step="choose a shorter one",
        )
    _check_folder(path.parent)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # Linux gives the file the mode that the socket has: it is never open to others, not even for a moment.
        os.fchmod(listener.fileno(), 0o600)
        try:
            listener.bind(str(path))
        except OSError as error:
            if path.exists() or path.is_symlink():
                raise AlreadyExistsError(
                    f"{path} exists",
                    subject=f"file {path}",
                    next_step="choose another place, or remove it if nobody serves there",
                ) from error
            raise
        made = path.lstat()
        try:
            listener.listen(_BACKLOG)
            yield listener
        finally:
            with contextlib.suppress(FileNotFoundError):
                now = path.lstat()
                if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                    path.unlink()


def _check_folder(folder: Path) -> None:
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        raise NotFoundError(
            f"the folder {folder} does not exist", subject=f"folder {folder}", next_step="make it, with mode 0700"
        ) from None
    if mode & _OTHERS_WRITE and not mode & stat.S_ISVTX:
        raise PreconditionError(
            f"others may put another socket in the place of one in {folder}",
            subject=f"folder {folder}",
            next_step="choose a folder of mode 0700",
        )


@contextmanager
def tcp_port(address: HostPort) -> Iterator[socket.socket]:
    """Listen on ``address``, port 0 for any free one.

    Raises:
        BusyError: the port is taken, or the address is not this machine's.
    """
    host, port = split(address)
    try:
        family, *_, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server((str(found[0]), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise BusyError(
            f"cannot listen on {address}: the port is in use, or the address is not this machine's",
            subject=f"port {address}",
            next_step="choose another one",
        ) from error
    with listener:
        yield listener


@contextmanager
def entering(listener: socket.socket, clients: Clients) -> Iterator[None]:
    """Let whoever connects in, on a thread of its own, while the block runs."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            try:
                sock, peer = listener.accept()
            except OSError:
                stopping.wait(_RETRY_SECONDS)  # no more files, for now; or the end
                continue
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            clients.enter(sock, str(peer[0]) if isinstance(peer, tuple) else "local")

    thread = threading.Thread(target=run, name="nbd-listener", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()
