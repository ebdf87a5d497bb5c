"""JSON files that show by themselves whether a byte of them changed.

The form is canonical: keys sorted, no white space, ASCII, one newline at the end. The last member, ``~blake3``, is the
BLAKE3-256 in lower-case hex of the file as it would be without it. It detects accidents; it authenticates nothing.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from blake3 import blake3

_MEMBER: Final = b',"~blake3":"'
_END: Final = b'"}\n'
_DIGEST_HEX: Final = 64
MOST_BYTES: Final = 16 << 20
"""Largest file of this kind that is read; a record of 256 disks takes a few hundred KiB."""


class SelfCheckError(Exception):
    """The file is not what was written."""


def canonical(value: Any) -> bytes:
    """``value`` as canonical JSON, without the newline."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def encode(members: Mapping[str, Any]) -> bytes:
    """The file for ``members``, which must hold at least one."""
    body = canonical(members)
    mark = blake3(body + b"\n").hexdigest().encode("ascii")
    return body[:-1] + _MEMBER + mark + _END


def decode(content: bytes) -> dict[str, Any]:
    """The members of a file that ``encode`` made, byte for byte.

    Raises:
        SelfCheckError: any byte differs.
    """
    tail = len(_MEMBER) + _DIGEST_HEX + len(_END)
    body = content[:-tail] + b"}"
    mark = blake3(body + b"\n").hexdigest().encode("ascii")
    if len(content) <= tail or content[-tail:] != _MEMBER + mark + _END:
        raise SelfCheckError("its own digest does not fit")
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        raise SelfCheckError("it is not JSON") from None
    if not isinstance(members, dict):
        raise SelfCheckError("it is not a JSON object")
    return members
