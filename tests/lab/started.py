"""What the lab starts and ends: ``with`` does both."""

import abc
from types import TracebackType
from typing import Self


class Started(abc.ABC):
    """Runs while its context lasts."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start it; returns when it serves."""

    @abc.abstractmethod
    def close(self) -> None:
        """End everything that was started, by process id; what it keeps in files stays."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
