"""Small self-checking JSON files of the store: read whole, made anew atomically."""

from collections.abc import Mapping
from typing import Any, Final

from common.errors import DamagedError, PreconditionError
from target_appliance.recovery.names import REWRITE
from target_appliance.seal import selfcheck
from target_appliance.seal.keys import FORMAT_VERSION
from target_appliance.store.port import Store

FORMAT_MEMBER: Final = "format"


def read(store: Store, path: str) -> dict[str, Any]:
    """The members of the file at ``path``.

    Raises:
        NotFoundError: there is no such file.
        DamagedError: it is not what was written.
        PreconditionError: a newer release wrote it.
    """
    with store.open(path) as file:
        size = min(file.size, selfcheck.MOST_BYTES + 1)
        content = file.read_at(0, size)
    if size > selfcheck.MOST_BYTES:
        raise damaged(path, "it is too large")
    try:
        members = selfcheck.decode(content)
    except selfcheck.SelfCheckError as error:
        raise damaged(path, str(error)) from None
    if members.get(FORMAT_MEMBER) != FORMAT_VERSION:
        raise PreconditionError(
            f"{path} has format version {members.get(FORMAT_MEMBER)!s:.20}, this release reads {FORMAT_VERSION}",
            subject=f"store file {path}",
            next_step="upgrade the appliance",
        )
    return members


def write(store: Store, path: str, members: Mapping[str, Any]) -> int:
    """Create the file at ``path``, durable and read-only; returns its size. Its folder is not synced."""
    content = selfcheck.encode({FORMAT_MEMBER: FORMAT_VERSION, **members})
    with store.create(path) as file:
        file.append([content])
        file.sync()
    store.protect(path)
    return len(content)


def replace(store: Store, folder: str, name: str, members: Mapping[str, Any]) -> None:
    """Make ``folder/name`` hold ``members``: the old content or the new, whenever power fails.

    One writer at a time: what an earlier one left behind is removed.
    """
    rewrite = f"{folder}/{REWRITE}"
    store.remove_tree(rewrite)
    store.make_folder(rewrite)
    write(store, f"{rewrite}/{name}", members)
    store.rename(f"{rewrite}/{name}", f"{folder}/{name}")
    store.sync_folder(folder)
    store.remove_tree(rewrite)


def damaged(path: str, why: str) -> DamagedError:
    """The error for a stored file that is not what was written."""
    return DamagedError(
        f"{path} is damaged: {why}",
        subject=f"store file {path}",
        next_step="run target-appliance verify, and restore the file from another copy of the store",
    )
