"""Does a store keep what its port promises? Asked once at start, on files of the probe's own."""

from collections.abc import Callable
from typing import Final

from common.errors import AlreadyExistsError, KeysapartError, NotFoundError, StoreError, StoreFullError
from target_appliance.store.port import Store

_FOLDER: Final = "probe"
_LEAST_FREE_BYTES: Final = 64 << 20
"""Below this no sync can land: one window of data."""
_CONTENT: Final = b"keysapart probe\n"


def probe(store: Store) -> None:
    """Return if the store creates exclusively, reads back, renames folders without replacing, and has room.

    Leaves nothing behind, nor what a probe left that was killed. One at a time: the appliance that serves the store.

    Raises:
        StoreError: it does not; the message says what.
        StoreFullError: there is no room for a sync.
    """
    try:
        store.remove_tree(_FOLDER)
        _exercise(store, _FOLDER)
    except (StoreError, StoreFullError):
        raise
    except KeysapartError as error:
        raise _unfit(error.message) from error
    finally:
        store.remove_tree(_FOLDER)
    free = store.free_bytes()
    if free < _LEAST_FREE_BYTES:
        raise StoreFullError(
            f"the store has {free} bytes free, a sync needs {_LEAST_FREE_BYTES}",
            subject="store",
            next_step="free space in the store or enlarge it",
        )


def _exercise(store: Store, folder: str) -> None:
    store.make_folder(f"{folder}/old")
    store.make_folder(f"{folder}/taken")
    path = f"{folder}/old/file"
    with store.create(path) as file:
        file.append([_CONTENT])
        file.sync()
    _must_refuse(lambda: store.create(path), "it creates a file over an existing one")
    store.protect(path)
    store.sync_folder(f"{folder}/old")
    _must_refuse(lambda: store.rename(f"{folder}/old", f"{folder}/taken"), "it renames a folder over another")
    store.rename(f"{folder}/old", f"{folder}/new")
    store.sync_folder(folder)
    with store.open(f"{folder}/new/file") as written:
        if written.read_at(0, len(_CONTENT) + 1) != _CONTENT:
            raise _unfit("it does not read back what was written")
    if store.names(folder) != ("new", "taken"):
        raise _unfit("a renamed folder does not show under its new name only")
    _must_be_missing(store, path)
    _must_be_missing(store, f"{folder}/new/FILE")


def _must_refuse(attempt: Callable[[], object], otherwise: str) -> None:
    try:
        attempt()
    except AlreadyExistsError:
        return
    raise _unfit(otherwise)


def _must_be_missing(store: Store, path: str) -> None:
    try:
        store.open(path).close()
    except NotFoundError:
        return
    raise _unfit("it finds a file under a name it does not have: names must be case-sensitive")


def _unfit(why: str) -> StoreError:
    return StoreError(
        f"the store cannot be used: {why}",
        subject="store",
        next_step="put store_dir on a local POSIX file system, such as ext4 or xfs",
    )
