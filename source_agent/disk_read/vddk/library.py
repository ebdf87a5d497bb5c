"""The library's calls, made in the worker: loaded once, all of them on the thread that made the object.

Results are numbers as the library gave them, details above bit 16 included; ``VixFailure`` carries one out.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from source_agent.disk_read.vddk import abi
from source_agent.disk_read.vddk.abi import ASYNC, CODE_MASK, OK, BlockList, ConnectParams, Info
from source_agent.disk_read.vddk.protocol import SECTOR_BYTES

_TEXT_BYTES = 2048
CHUNK_SECTORS: Final = 128
"""Granularity of allocated runs: 64 KiB, the smallest that the library takes."""
_MOST_CHUNKS: Final = 524_288
"""Of one allocated query."""


class VixFailure(Exception):  # noqa: N818  # not of the error tree: it crosses no process as itself
    """A call failed; carries the library's number and text."""

    def __init__(self, call: str, result: int, text: str) -> None:
        super().__init__(call)
        self.call = call
        self.result = result
        self.text = text


class Library:
    """A loaded and initialised library; one per process, made on its main thread.

    Args:
        path: of libvixDiskLib.so.N itself.
        root: the unpacked folder, which holds lib64 and the library's plug-ins.
        config: its configuration file.
        heard: gets (level, text) of each line of its log, from any thread.

    Raises:
        OSError: it cannot be loaded, or lacks a function that is no option.
        VixFailure: InitEx refused.
    """

    def __init__(self, path: str, root: str, config: str, heard: Callable[[str, bytes], None]) -> None:
        library = ctypes.CDLL(path, mode=os.RTLD_NOW)
        self._calls: dict[str, Any] = {}
        for name, (result, arguments) in abi.REQUIRED.items():
            self._declare(library, name, result, arguments)
        for name, (result, arguments) in abi.OPTIONAL.items():
            if hasattr(library, f"VixDiskLib_{name}"):
                self._declare(library, name, result, arguments)
        # Kept for as long as the library is: it calls them whenever it likes.
        self._loggers = [_logger(level, heard) for level in ("log", "warning", "panic")]
        self.check("InitEx", *abi.ASKED_VERSION, *self._loggers, os.fsencode(root), os.fsencode(config))

    def _declare(self, library: ctypes.CDLL, name: str, result: Any, arguments: Any) -> None:
        function = getattr(library, f"VixDiskLib_{name}", None)
        if function is None:
            raise OSError(f"it has no VixDiskLib_{name}")
        function.restype, function.argtypes = result, arguments
        self._calls[name] = function

    def has(self, *names: str) -> bool:
        """All of these optional functions are there."""
        return all(name in self._calls for name in names)

    def call(self, name: str, *arguments: Any) -> Any:
        """What a function returns."""
        return self._calls[name](*arguments)

    def check(self, name: str, *arguments: Any) -> None:
        """Call a function that returns a result.

        Raises:
            VixFailure: it is not OK.
        """
        result = int(self.call(name, *arguments))
        if result != OK:
            raise VixFailure(name, result, self.text(result))

    def text(self, result: int) -> str:
        """The vendor's words for a result."""
        address = self.call("GetErrorText", result, None)
        if not address:
            return ""
        try:
            return ctypes.string_at(address).decode("utf-8", "replace")
        finally:
            self.call("FreeErrorText", address)

    @contextmanager
    def params(self, values: dict[str, Any]) -> Iterator[Any]:
        """Connection parameters for the length of the block; ``values`` as the agent sent them.

        The library makes them where it can, since it knows their true size.
        """
        own = None
        if self.has("AllocateConnectParams", "FreeConnectParams"):
            made = self.call("AllocateConnectParams")
        else:
            own = ctypes.create_string_buffer(abi.PARAMS_BYTES)
            made = ctypes.cast(own, ctypes.POINTER(ConnectParams))
        try:
            fields = made.contents
            if values.get("vm"):
                fields.vmx_spec = f"moref={values['vm']}".encode()
            fields.server_name = values["server"].encode()
            fields.thumbprint = values["thumbprint"].encode()
            fields.credential_type = abi.CREDENTIALS_UID
            fields.user = values["user"].encode()
            fields.password = values["password"].encode()
            fields.port = values["port"]
            fields.nfc_port = values["data_port"]
            yield made
        finally:
            if own is None:  # never one that we made ourselves
                self.call("FreeConnectParams", made)

    def on_vm(self, name: str, values: dict[str, Any]) -> None:
        """PrepareForAccess or EndAccess with the agent's identity."""
        with self.params(values) as params:
            self.check(name, params, values["identity"].encode())

    def clean_up(self, values: dict[str, Any]) -> tuple[int, int]:
        """Undo what a crashed process left attached: (undone, left)."""
        done, left = ctypes.c_uint32(), ctypes.c_uint32()
        with self.params(values | {"vm": None}) as params:
            self.check("Cleanup", params, ctypes.byref(done), ctypes.byref(left))
        return done.value, left.value

    def exit(self) -> None:
        """End its threads."""
        self.call("Exit")


class Disk:
    """An open disk, and the connection that it is open over."""

    def __init__(self, library: Library, values: dict[str, Any]) -> None:
        self._library = library
        self._connection = ctypes.c_void_p()
        self.handle = ctypes.c_void_p()
        with library.params(values) as params:
            library.check(
                "ConnectEx",
                params,
                b"\x01",
                values["snapshot"].encode(),
                values["mode"].encode(),
                ctypes.byref(self._connection),
            )
        try:
            path = values["path"].encode()
            library.check("Open", self._connection, path, abi.OPEN_READ_ONLY, ctypes.byref(self.handle))
        except VixFailure:
            library.call("Disconnect", self._connection)
            raise

    @property
    def mode(self) -> str:
        """The transport that it came up with, which may be another than was asked for."""
        told: bytes | None = self._library.call("GetTransportMode", self.handle)  # static, never freed
        return (told or b"").decode("utf-8", "replace")

    def capacity_bytes(self) -> int:
        """What the library says."""
        info = ctypes.POINTER(Info)()
        self._library.check("GetInfo", self.handle, ctypes.byref(info))
        try:
            return int(info.contents.capacity_sectors) * SECTOR_BYTES
        finally:
            self._library.call("FreeInfo", info)

    def allocated(self) -> Iterator[bytes]:
        """Packed (offset, length) in sectors of the runs that may hold data, in order; the tail counts as one.

        Whole chunks only: a partial one at the end is refused on large disks.
        """
        sectors = self.capacity_bytes() // SECTOR_BYTES
        whole = sectors - sectors % CHUNK_SECTORS
        step = _MOST_CHUNKS * CHUNK_SECTORS
        for start in range(0, whole, step):
            blocks = ctypes.POINTER(BlockList)()
            length = min(step, whole - start)
            query = (self.handle, start, length, CHUNK_SECTORS, ctypes.byref(blocks))
            self._library.check("QueryAllocatedBlocks", *query)
            try:
                address = ctypes.cast(blocks, ctypes.c_void_p).value or 0
                yield ctypes.string_at(address + ctypes.sizeof(BlockList), blocks.contents.count * 16)
            finally:
                self._library.call("FreeBlockList", blocks)
        if sectors > whole:
            yield (whole).to_bytes(8, "little") + (sectors - whole).to_bytes(8, "little")

    def read(self, sector: int, sectors: int, address: int) -> int:
        """Read now; the library's result."""
        return int(self._library.call("Read", self.handle, sector, sectors, address))

    def read_async(self, sector: int, sectors: int, address: int, done: Any, slot: int) -> int:
        """Have it read; OK when ``done`` was called or will be, else why not."""
        result = int(self._library.call("ReadAsync", self.handle, sector, sectors, address, done, slot))
        return OK if result & CODE_MASK == ASYNC else result

    def close(self) -> None:
        """Wait for what is under way, close, disconnect."""
        if self._library.has("Wait"):
            self._library.call("Wait", self.handle)
        self._library.call("Close", self.handle)
        self._library.call("Disconnect", self._connection)


def _logger(level: str, heard: Callable[[str, bytes], None]) -> Any:
    """A callback for the library's log. It never raises, and uses the va_list once."""
    vsnprintf = ctypes.CDLL(None).vsnprintf
    vsnprintf.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
    vsnprintf.restype = ctypes.c_int

    def logged(text: int | None, arguments: int | None) -> None:
        line = ctypes.create_string_buffer(_TEXT_BYTES)
        if vsnprintf(line, _TEXT_BYTES, text, arguments) > 0:
            heard(level, line.value.rstrip())

    return abi.LogCallback(logged)
