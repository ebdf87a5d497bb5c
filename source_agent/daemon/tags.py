"""The tags as they were last read: a tag service that fails must not take VMs out of protection.

They are kept in the state folder as well, because an agent may be started anew while the service is away.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from common import log
from common.clock import Clock
from common.errors import KeysapartError
from common.private_file import write_file
from source_agent.schedule.tags import missing
from source_agent.vsphere.port import VSphere

_FILE: Final = "tags.json"
_log = log.get("tags")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was read: morefs of the VMs of each tag that is there, of those asked for."""

    asked: frozenset[str]
    tagged: Mapping[str, frozenset[str]]
    when: datetime


class LastTags:
    """Used by one thread; ``state_dir`` is where the last reading is kept."""

    def __init__(self, vsphere: VSphere, clock: Clock, state_dir: Path) -> None:
        self._vsphere = vsphere
        self._clock = clock
        self._file = state_dir / _FILE
        self._last = _load(self._file)

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, frozenset[str]] | None, tuple[str, ...]]:
        """Morefs of each tag's VMs, and sentences on what is not as it should be.

        After a failure those of the last reading; None where that did not ask for all of ``wanted``.
        """
        if not wanted:
            return {}, ()
        try:
            tagged = self._vsphere.tagged(wanted)
        except KeysapartError as error:
            if self._last is None or not wanted <= self._last.asked:
                return None, (f"{error.message}; until they are read the selection stays as it was",)
            since = self._last.when.isoformat(timespec="seconds")
            return self._last.tagged, (f"{error.message}; VMs are selected by the tags as of {since}",)
        self._last = _Reading(wanted, tagged, self._clock.now())
        try:
            _save(self._file, self._last)
        except OSError as error:
            _log.warning("the tags could not be kept for the next start", cause=error.strerror)
        return tagged, missing(wanted, tagged)


def _load(file: Path) -> _Reading | None:
    """None where nothing is kept, or nothing that can be read."""
    try:
        found = json.loads(file.read_bytes())
        tagged = {str(tag): frozenset(morefs) for tag, morefs in found["tagged"].items()}
        return _Reading(frozenset(found["asked"]), tagged, datetime.fromisoformat(found["when"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _save(file: Path, reading: _Reading) -> None:
    document = {
        "asked": sorted(reading.asked),
        "tagged": {tag: sorted(morefs) for tag, morefs in reading.tagged.items()},
        "when": reading.when.isoformat(),
    }
    write_file(file, f"{json.dumps(document)}\n".encode(), replace=True)
