"""Files of points read together with their digests: what does not fit is never handed out."""

from collections import OrderedDict
from typing import Final

from blake3 import blake3

from common.closing import Closing
from common.errors import DamagedError
from common.grain import DIGEST_BYTES
from target_appliance.recovery.digests import CHUNK_BYTES
from target_appliance.recovery.findings import Progress
from target_appliance.store.port import ReadFile

_KEPT_CHUNKS: Final = 64


class Chunks:
    """Chunks that were checked and are still in memory, of all files of a merge together."""

    def __init__(self, progress: Progress) -> None:
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._progress = progress

    def get(self, path: str, number: int) -> bytes | None:
        """A chunk, if it is there."""
        found = self._kept.get((path, number))
        if found is not None:
            self._kept.move_to_end((path, number))
        return found

    def put(self, path: str, number: int, chunk: bytes) -> None:
        """Keep a chunk for a while."""
        self._progress(len(chunk))
        self._kept[path, number] = chunk
        if len(self._kept) > _KEPT_CHUNKS:
            self._kept.popitem(last=False)


class CheckedFile(Closing):
    """See ReadFile. ``file`` stays the caller's. Not thread-safe.

    Raises:
        DamagedError: here and in ``read_at``: size or bytes are not those of the digest list.
    """

    def __init__(self, file: ReadFile, path: str, size: int, digests: bytes, chunks: Chunks) -> None:
        self._file = file
        self._path = path
        self._digests = digests
        self._chunks = chunks
        self.size = size
        if file.size != size:
            raise self._damaged(f"it has {file.size} bytes, {size} were committed")

    def read_at(self, offset: int, length: int) -> bytes:
        """See ReadFile."""
        stop = min(offset + length, self.size)
        parts = []
        while offset < stop:
            number, begin = divmod(offset, CHUNK_BYTES)
            part = self._chunk(number)[begin : begin + stop - offset]
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """See ReadFile."""

    def _chunk(self, number: int) -> bytes:
        chunk = self._chunks.get(self._path, number)
        if chunk is None:
            offset = number * CHUNK_BYTES
            chunk = self._file.read_at(offset, min(CHUNK_BYTES, self.size - offset))
            expected = self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
            if blake3(chunk).digest(length=DIGEST_BYTES) != expected:
                raise self._damaged(f"bytes {offset} to {offset + len(chunk) - 1} are not those committed")
            self._chunks.put(self._path, number, chunk)
        return chunk

    def _damaged(self, why: str) -> DamagedError:
        return DamagedError(
            f"{self._path} is damaged, so nothing was merged: {why}",
            subject=f"store file {self._path}",
            next_step="run target-appliance verify to see what is affected, and restore the file from another copy",
        )
