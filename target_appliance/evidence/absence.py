"""Is what the source's keys are called in anything that the appliance holds? Looked for, byte by byte."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common.errors import InvalidInputError, PreconditionError
from common.sought import Search, Sought
from target_appliance.audit.heads import read_file

_MOST_SHOWN: Final = 100
"""Hits and unread files that a report lists."""


@dataclass(frozen=True, slots=True)
class Source:
    """What one source must not find here again."""

    sought: Sought
    members: dict[str, Any]
    sha256: str


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder that is looked through, with the name that the report gives it."""

    name: str
    path: Path


def read_source(path: Path) -> Source:
    """A file that ``source-agent evidence`` made.

    Raises:
        NotFoundError, InvalidInputError: there is none, or it is something else.
    """
    content = read_file(path)
    try:
        members = json.loads(content)
        return Source(Sought.parse(members), members, hashlib.sha256(content).hexdigest())
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise InvalidInputError(
            f"{path} is no file that source-agent evidence made ({type(error).__name__})",
            subject=f"file {path}",
            next_step="have it made anew at the source",
        ) from None


def look(
    sources: Sequence[Source], places: Sequence[Place], tenant: str, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Look for everything in every file of every place; returns that part of the report.

    Files are read as they lie when their turn comes. Links are not followed.

    Args:
        sources: what to look for; with none nothing is read.
        places: where.
        tenant: whose report it is: other tenants' folders are not named in it.
        progress: told of bytes read.

    Raises:
        PreconditionError: a file was made to look like what is sought.
    """
    searches = [Search(source.sought) for source in sources]
    held: list[dict[str, Any]] = []
    unread: list[str] = []
    for place in places if searches else ():
        files = sorted(_files(place.path))
        names = "\0".join(str(path.relative_to(place.path.parent)) for path in files).encode()
        size = 0
        for search in searches:
            search.file(f"{place.name}: names of files", _pieces(names))
        for path in files:
            shown = f"{place.name}: {_shown(path, place.path, tenant)}"
            try:
                size += _through(searches, path, shown, progress)
            except FileNotFoundError:
                continue  # it is held no longer
            except OSError as error:
                unread.append(f"{shown} ({error.strerror})")
        held.append({"place": place.name, "files": len(files), "bytes": size})
    hits = [
        {"source": source.sha256, "file": name, "offset": offset, "kind": one.kind, "form": one.form}
        for source, search in zip(sources, searches, strict=True)
        for name, offset, one in search.seen.hits
    ]
    return {
        "checked": bool(searches),
        "sources": [_about(source) for source in sources],
        "places": held,
        "windows": sum(search.seen.windows for search in searches),
        "candidates": sum(search.seen.candidates for search in searches),
        "found": len(hits),
        "hits": hits[:_MOST_SHOWN],
        "unread": len(unread),
        "unread_files": unread[:_MOST_SHOWN],
    }


def total_bytes(places: Iterable[Place]) -> int:
    """About how much will be read, for showing progress."""
    return sum(path.stat().st_size for place in places for path in _files(place.path) if path.exists())


def _through(searches: Sequence[Search], path: Path, shown: str, progress: Callable[[int], None]) -> int:
    size = 0
    for search in searches:
        with path.open("rb") as file:
            left = size = os.fstat(file.fileno()).st_size  # of a log that grows meanwhile, what there was

            def read(most: int) -> bytes:
                nonlocal left
                piece = file.read(min(most, left))
                left -= len(piece)
                progress(len(piece))
                return piece

            try:
                search.file(shown, read)
            except OverflowError:
                raise PreconditionError(
                    f"{shown} was made to look like what is sought, so that the search would not end",
                    subject=f"file {path}",
                    next_step="look at who wrote it, and move it away",
                ) from None
    return size


def _files(path: Path) -> Iterator[Path]:
    if path.is_file() and not path.is_symlink():
        yield path
    elif path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                found = Path(folder) / name
                if found.is_file() and not found.is_symlink():
                    yield found


def _pieces(content: bytes) -> Callable[[int], bytes]:
    view = memoryview(content)

    def read(most: int) -> bytes:
        nonlocal view
        piece, view = bytes(view[:most]), view[most:]
        return piece

    return read


def _shown(path: Path, place: Path, tenant: str) -> str:
    """The file's name below its place; of another tenant's only that it is one."""
    parts = path.relative_to(place).parts if path != place else (path.name,)
    if len(parts) > 1 and parts[0] == "tenants" and parts[1] not in {tenant, f"{tenant}.json"}:
        return "a file of another tenant"
    return "/".join(parts)


def _about(source: Source) -> dict[str, Any]:
    told = source.members
    return {
        "sha256": source.sha256,
        "replica": str(told.get("replica")),
        "agent": str(told.get("agent")),
        "time": str(told.get("time")),
        "key_ids": told.get("key_ids"),
        "key_providers": told.get("key_providers"),
        "patterns": len(source.sought.patterns),
        "left_out": source.sought.left_out,
    }
