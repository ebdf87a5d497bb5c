"""The tags as they were last read: a tag service that fails must not take VMs out of protection."""

from collections.abc import Mapping
from datetime import datetime

from common.clock import Clock
from common.errors import KeysapartError
from source_agent.schedule.tags import missing
from source_agent.vsphere.port import VSphere


class LastTags:
    """Written by one thread."""

    def __init__(self, vsphere: VSphere, clock: Clock) -> None:
        self._vsphere = vsphere
        self._clock = clock
        self._asked: frozenset[str] = frozenset()
        self._tagged: Mapping[str, frozenset[str]] = {}
        self._read: datetime | None = None

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, frozenset[str]] | None, tuple[str, ...]]:
        """Morefs of each tag's VMs, and sentences on what is not as it should be.

        After a failure those of the last reading; None where that did not ask for all of ``wanted``.
        """
        if not wanted:
            return {}, ()
        try:
            self._tagged = self._vsphere.tagged(wanted)
        except KeysapartError as error:
            if self._read is None or not wanted <= self._asked:
                return None, (f"{error.message}; until they are read the selection stays as it was",)
            since = self._read.isoformat(timespec="seconds")
            return self._tagged, (f"{error.message}; VMs are selected by the tags as of {since}",)
        self._asked, self._read = wanted, self._clock.now()
        return self._tagged, missing(wanted, self._tagged)
