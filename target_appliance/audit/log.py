"""The audit log's writer. Any number of processes and threads may write one log.

A line is durable when ``append`` returns. What a crash left at the end that is no line stays as it is, and is followed
by a line that describes it, so that files only ever grow (``chattr +a`` may be set on them).
"""

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common import log
from common.clock import Clock
from common.errors import StoreError, StoreFullError
from target_appliance.audit import chain, folder
from target_appliance.audit.event import Event, Fact, What, Who

_log = log.get("audit")

APPLIANCE: Final = Who("appliance")
ROTATE_BYTES: Final = 64 << 20
"""Size at which a new file is begun."""
_MODE: Final = 0o700


class AuditLog:
    """See the module.

    Args:
        place: the folder; made when missing.
        clock: for the lines' times.
        who: who acts in this process, unless ``acting`` says otherwise.
        head_every: how many events pass between two heads in the ordinary log, from where a syslog may keep them.
        rotate_bytes: see ROTATE_BYTES.
    """

    def __init__(
        self,
        place: Path,
        clock: Clock,
        who: Who = APPLIANCE,
        *,
        head_every: int = 100,
        rotate_bytes: int = ROTATE_BYTES,
    ) -> None:
        self._place = place
        self._clock = clock
        self._who = who
        self._head_every = head_every
        self._rotate_bytes = rotate_bytes
        self._mutex = threading.Lock()
        self._acting = threading.local()
        self._known: chain.Head | None = None
        self._where: tuple[Path, int] | None = None
        """File and size that ``_known`` was read from or written to."""

    @property
    def who(self) -> Who:
        """Who acts now, in this thread."""
        found: Who = getattr(self._acting, "who", self._who)
        return found

    @contextmanager
    def acting(self, who: Who) -> Iterator[None]:
        """What this thread does within the block is ``who``'s doing."""
        before = self.who
        self._acting.who = who
        try:
            yield
        finally:
            self._acting.who = before

    def append(self, *events: Event) -> chain.Head:
        """Write events, durably and in order, all after each other; returns the head that they make.

        Raises:
            StoreFullError: the volume is full.
            StoreError: the log cannot be written, or was cut or altered at its end.
        """
        members = [event.members() for event in events]
        with self._mutex:
            try:
                self._place.mkdir(mode=_MODE, parents=True, exist_ok=True)
                with folder.locked(self._place):
                    return self._append(members)
            except OSError as error:
                self._where = None
                raise _unwritable(error) from error

    def head(self) -> chain.Head | None:
        """The newest line's; None while there is none.

        Raises:
            StoreError: as ``append``.
        """
        with self._mutex:
            try:
                if not folder.files(self._place):
                    return None
                with folder.locked(self._place, shared=True):
                    return self._tail()[0]
            except OSError as error:
                raise _unwritable(error) from error

    def _append(self, events: Sequence[dict[str, Fact]]) -> chain.Head:
        head, path, torn = self._tail()
        now = self._clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        members = [{**one, "time": now} for one in events]
        out = []
        if torn:
            out.append(b"" if torn.endswith(b"\n") else b"\n")
            ended = torn + out[0]
            head = _whole(ended, head) or head
            facts: dict[str, Fact] = {"torn_bytes": len(ended), "torn_sha256": hashlib.sha256(ended).hexdigest()}
            healed = Event(What.LOG_HEALED, APPLIANCE, "audit log", facts=facts)
            members.insert(0, {**healed.members(), "time": now})
        before = 0 if head is None else head.sequence
        for one in members:
            line, head = chain.encode(head, one)
            out.append(line)
        if head is None:
            raise ValueError("nothing to write")
        self._write(path, b"".join(out), healing=bool(torn))
        self._known = head
        if before // self._head_every != head.sequence // self._head_every:
            _log.info("audit head", sequence=head.sequence, digest=head.digest)
        return head

    def _write(self, path: Path | None, content: bytes, *, healing: bool) -> None:
        size = 0 if path is None else path.stat().st_size
        if path is None or (size >= self._rotate_bytes and not healing):
            path, size = folder.next_file(self._place, path), 0
            handle = folder.create(path)
        else:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._where = None
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(handle, left) :]
            os.fdatasync(handle)
        finally:
            os.close(handle)
        self._where = path, size + len(content)

    def _tail(self) -> tuple[chain.Head | None, Path | None, bytes]:
        """Newest head, the file to go on in, and what a crash left after the last whole line.

        Raises:
            StoreError: the last whole line is older than one that this process knows.
        """
        found = folder.files(self._place)
        if not found:
            self._refuse_older(None)
            return None, None, b""
        if self._where is not None and self._where == (found[-1], found[-1].stat().st_size):
            return self._known, found[-1], b""
        head: chain.Head | None = None
        torn = b""
        for path in reversed(found):  # a file that was just begun may have no line yet
            last, rest = _last_line(path)
            torn = torn or rest
            if last is not None:
                head = last.head
                break
        self._refuse_older(head)
        self._known = head
        return head, found[-1], torn

    def _refuse_older(self, head: chain.Head | None) -> None:
        known = self._known
        if known is not None and (head is None or head.sequence < known.sequence):
            raise _altered(f"it ended in line {known.sequence} before, which is gone")
        if known is not None and head is not None and head.sequence == known.sequence and head != known:
            raise _altered(f"line {known.sequence} is another one than before")


def _last_line(path: Path) -> tuple[chain.Line | None, bytes]:
    """The last line of a file that is one, and all that follows it.

    Raises:
        StoreError: there is more of that than crashes leave.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        start = max(0, size - 2 * chain.MOST_LINE)
        content = os.pread(handle, size - start, start)
    finally:
        os.close(handle)
    rest = len(content)
    *ended, cut = content.split(b"\n")
    rest -= len(cut)
    for raw in reversed(ended):
        with contextlib.suppress(chain.LineError):
            return chain.decode(raw + b"\n"), content[rest:]
        rest -= len(raw) + 1
    if start:
        raise _altered(f"{path.name} does not end in a line")
    return None, content


def _whole(line: bytes, before: chain.Head | None) -> chain.Head | None:
    """The head that a line makes of which only the newline was missing."""
    try:
        found = chain.decode(line)
    except chain.LineError:
        return None
    return found.head if chain.follows(found, before) else None


def _unwritable(error: OSError) -> StoreError | StoreFullError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    kind = StoreFullError if full else StoreError
    return kind(
        f"the audit log cannot be written ({error.strerror or error}), so nothing new is accepted or read",
        subject="audit log",
        next_step="make room on its volume" if full else "look at its volume and at the permissions of the folder",
    )


def _altered(why: str) -> StoreError:
    return StoreError(
        f"the audit log was altered ({why}), so nothing new is accepted or read",
        subject="audit log",
        next_step="run target-appliance audit verify; to go on, move the folder away and keep it as evidence",
    )
