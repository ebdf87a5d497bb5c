"""A file being written that can be let go of in between: durable and closed while it rests, opened again by itself."""

from collections.abc import Sequence
from typing import Self

from common.closing import Closing
from common.errors import AlreadyExistsError
from target_appliance.store.port import Store, WriteFile


class RestingFile(Closing):
    """See WriteFile; made new at ``path`` of ``store``, or there already and to be written on from ``position``."""

    def __init__(self, store: Store, path: str, position: int | None = None) -> None:
        self._store = store
        self._path = path
        self._file: WriteFile | None = store.create(path) if position is None else None
        self._position = position or 0

    @classmethod
    def anew(cls, store: Store, path: str) -> Self:
        """A new file, in place of one that may be there."""
        try:
            return cls(store, path)
        except AlreadyExistsError:
            return cls(store, path, 0)

    @property
    def position(self) -> int:
        """See WriteFile."""
        return self._position

    def append(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """See WriteFile."""
        file = self._awake()
        file.append(pieces)
        self._position = file.position

    def overwrite(self, offset: int, data: bytes) -> None:
        """See WriteFile."""
        self._awake().overwrite(offset, data)

    def sync(self) -> None:
        """See WriteFile; what rests is durable already."""
        if self._file is not None:
            self._file.sync()

    def rest(self) -> None:
        """Make durable what was written and hold no descriptor until the next write."""
        if self._file is not None:
            self._file.sync()
            self.close()

    def close(self) -> None:
        """See WriteFile."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _awake(self) -> WriteFile:
        if self._file is None:
            self._file = self._store.reopen(self._path, self._position)
        return self._file
