"""Files that only their owner may read, replaced as a whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from common.errors import AlreadyExistsError

PRIVATE = 0o600
PUBLIC = 0o644


def write_file(path: Path, content: bytes, *, mode: int = PRIVATE, replace: bool = False) -> None:
    """Write ``path`` durably: a neighbour is written and synced first, then takes the name.

    The mode is set before the first byte is written, so a private file is never readable in between.

    Raises:
        AlreadyExistsError: the file exists and ``replace`` is false.
        OSError: the file system refused.
    """
    neighbour = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(neighbour, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if replace:
            neighbour.replace(path)
        else:
            _take_name(neighbour, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            neighbour.unlink()
        raise
    sync_folder(path.parent)


def write_together(contents: Mapping[Path, tuple[bytes, int]]) -> None:
    """Replace several files, each with its mode, in the order given; everything that can fail is done before the first.

    Raises:
        OSError: the file system refused; as a rule nothing was replaced then.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, (content, mode) in contents.items():
            neighbour = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            write_file(neighbour, content, mode=mode)
            staged[path] = neighbour
        for path, neighbour in staged.items():
            neighbour.replace(path)
    finally:
        for neighbour in staged.values():
            with contextlib.suppress(FileNotFoundError):
                neighbour.unlink()
    for folder in {path.parent for path in contents}:
        sync_folder(folder)


def _take_name(neighbour: Path, path: Path) -> None:
    """Link instead of rename: only a link fails when the name is taken."""
    try:
        path.hardlink_to(neighbour)
    except FileExistsError:
        raise AlreadyExistsError(
            f"{path} exists", subject=f"file {path}", next_step="move it away first, or choose another place"
        ) from None
    neighbour.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
