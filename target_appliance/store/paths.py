"""Store paths: relative, joined by ``/``, made of plain names. Checked once more here, whatever the caller did."""

from common.errors import InternalError

_NAME_MOST = 255


def split_path(path: str) -> tuple[str, ...]:
    """The names in ``path``.

    Raises:
        InternalError: a name is empty, too long, ``.``, ``..``, or holds a NUL; callers parse names before.
    """
    names = tuple(path.split("/"))
    for name in names:
        if name in {"", ".", ".."} or "\0" in name or len(name) > _NAME_MOST:
            raise InternalError(
                f"{path[:200]!a} is not a path inside the store",
                subject="store path",
                next_step="report this",
            )
    return names
