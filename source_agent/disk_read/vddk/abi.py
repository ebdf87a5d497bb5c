"""The one list of the vendor's structs and signatures, for x86-64, as far as a reader needs them.

What a release may lack stands in ``OPTIONAL``; nothing else of the library is ever called.
"""

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_int32, c_long, c_uint32, c_uint64, c_void_p
from typing import Any, Final

VixError = c_uint64

LogCallback = CFUNCTYPE(None, c_void_p, c_void_p)
"""(format, va_list); both end with the call. On x86-64 a va_list is passed as a pointer, so vsnprintf takes it."""
DoneCallback = CFUNCTYPE(None, c_void_p, c_uint64)

OK: Final = 0
ASYNC: Final = 25000
CODE_MASK: Final = 0xFFFF
"""Of a result: what is above may carry details."""

CREDENTIALS_UID: Final = 1
OPEN_READ_ONLY: Final = 4

ASKED_VERSION: Final = (6, 5)
"""What InitEx is asked for: every later library accepts it, and there is no call that tells a version."""
PARAMS_BYTES: Final = 256
"""Of connection parameters that we make ourselves where the library cannot: more than any release has."""


class ConnectParams(Structure):
    """VixDiskLibConnectParams with a user's name and password."""

    _fields_ = (
        ("vmx_spec", c_char_p),
        ("server_name", c_char_p),
        ("thumbprint", c_char_p),
        ("reserved", c_long),
        ("credential_type", c_int32),
        ("user", c_char_p),
        ("password", c_char_p),
        ("spare", c_void_p),
        ("port", c_uint32),
        ("nfc_port", c_uint32),
        ("api_version", c_char_p),
        ("reserved2", c_char * 8),
        ("state", c_void_p),
        ("spec", c_void_p * 3),
        ("spec_type", c_int32),
    )


class Info(Structure):
    """VixDiskLibInfo as far as all releases agree: what follows is rubbish before 7.0."""

    _fields_ = (("geometry", c_uint32 * 6), ("capacity_sectors", c_uint64))


class Block(Structure):
    """A run of sectors."""

    _fields_ = (("offset", c_uint64), ("length", c_uint64))


class BlockList(Structure):
    """Head of a VixDiskLibBlockList; the blocks follow at byte 8."""

    _fields_ = (("count", c_uint32), ("padding", c_uint32))


Signature = tuple[Any, tuple[Any, ...]]
"""Result and arguments."""

_PARAMS = POINTER(ConnectParams)
_OUT = POINTER(c_void_p)

REQUIRED: Final[dict[str, Signature]] = {
    "InitEx": (
        VixError,
        (c_uint32, c_uint32, LogCallback, LogCallback, LogCallback, c_char_p, c_char_p),
    ),
    "Exit": (None, ()),
    # Texts are fetched as addresses: ctypes would turn a char* into bytes, and nothing would be left to free.
    "GetErrorText": (c_void_p, (VixError, c_char_p)),
    "FreeErrorText": (None, (c_void_p,)),
    "ConnectEx": (VixError, (_PARAMS, c_char, c_char_p, c_char_p, _OUT)),
    "Disconnect": (VixError, (c_void_p,)),
    "Open": (VixError, (c_void_p, c_char_p, c_uint32, _OUT)),
    "Close": (VixError, (c_void_p,)),
    "GetInfo": (VixError, (c_void_p, POINTER(POINTER(Info)))),
    "FreeInfo": (None, (POINTER(Info),)),
    "GetTransportMode": (c_char_p, (c_void_p,)),
    "Read": (VixError, (c_void_p, c_uint64, c_uint64, c_void_p)),
}
"""By name without ``VixDiskLib_``."""

OPTIONAL: Final[dict[str, Signature]] = {
    "AllocateConnectParams": (_PARAMS, ()),
    "FreeConnectParams": (None, (_PARAMS,)),
    "ReadAsync": (VixError, (c_void_p, c_uint64, c_uint64, c_void_p, DoneCallback, c_void_p)),
    "Wait": (VixError, (c_void_p,)),
    "QueryAllocatedBlocks": (VixError, (c_void_p, c_uint64, c_uint64, c_uint64, POINTER(POINTER(BlockList)))),
    "FreeBlockList": (VixError, (POINTER(BlockList),)),
    "PrepareForAccess": (VixError, (_PARAMS, c_char_p)),
    "EndAccess": (VixError, (_PARAMS, c_char_p)),
    "Cleanup": (VixError, (_PARAMS, POINTER(c_uint32), POINTER(c_uint32))),
}

assert ctypes.sizeof(ConnectParams) == 128  # noqa: S101  # a wrong layout would corrupt memory, not fail
assert ConnectParams.port.offset == 64  # noqa: S101
assert Info.capacity_sectors.offset == 24  # noqa: S101
