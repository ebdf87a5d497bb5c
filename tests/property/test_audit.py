"""Whatever somebody does to lines of the audit log, the first place where it shows is named."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_appliance.audit import chain
from target_appliance.audit.check import Place, Verdict, verify
from target_appliance.audit.event import Event, What, Who
from target_appliance.audit.log import AuditLog
from tests.fakes.clock import ManualClock

LINES = 24
WHO = Who("agent", "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "acme")

numbers = st.integers(0, LINES - 1)


@pytest.fixture(scope="module")
def written() -> Iterator[tuple[Path, chain.Head]]:
    with tempfile.TemporaryDirectory() as folder:
        log = AuditLog(Path(folder) / "audit", ManualClock(), rotate_bytes=2500)
        for number in range(LINES):
            head = log.append(Event(What.COMMAND, WHO, f"replica {number}", facts={"number": number}))
        yield Path(folder) / "audit", head


class Copy:
    """A log's lines, to be put back into the files that they are from."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.lines: list[bytes] = []
        self.where: list[Place] = []
        for path in sorted(place.glob("*.jsonl")):
            for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
                self.lines.append(line)
                self.where.append(Place(path.name, number))

    def put(self, changed: list[bytes | list[bytes]]) -> Verdict:
        """Write the log: at each old line's place what is there now, an empty list for nothing."""
        contents: dict[str, bytes] = {}
        for where, now in zip(self.where, changed, strict=True):
            contents[where.file] = contents.get(where.file, b"") + (now if isinstance(now, bytes) else b"".join(now))
        for name, content in contents.items():
            (self.place / name).write_bytes(content)
        return verify(self.place)


@contextmanager
def copied(place: Path) -> Iterator[Copy]:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(place, Path(folder) / "audit")
        yield Copy(Path(folder) / "audit")


def redone(line: bytes, **members: object) -> bytes:
    """The line altered by somebody who knows how its digest is made."""
    was = json.loads(line)
    was.pop("~digest")
    before = chain.Head(was["sequence"] - 1, was["previous"]) if was["sequence"] > 1 else None
    return chain.encode(before, {**was, **members})[0]


def test_what_nobody_touched_is_whole(written: tuple[Path, chain.Head]) -> None:
    place, head = written
    verdict = verify(place, [head])
    assert (verdict.trouble, verdict.head, verdict.first) == (None, head, 1)
    assert verdict.files >= 3


@given(number=numbers, data=st.data())
def test_an_altered_byte_is_named(written: tuple[Path, chain.Head], number: int, data: st.DataObject) -> None:
    with copied(written[0]) as copy:
        line = copy.lines[number]
        offset = data.draw(st.integers(0, len(line) - 1))
        value = data.draw(st.integers(0, 255).filter(lambda value: value != line[offset]))
        altered = line[:offset] + bytes([value]) + line[offset + 1 :]
        verdict = copy.put([*copy.lines[:number], altered, *copy.lines[number + 1 :]])
        if number == LINES - 1 and offset == len(line) - 1:
            assert verdict.torn  # no line any more: what a crash leaves, and no crash shows in the middle
        else:
            assert verdict.trouble is not None
            assert verdict.place == copy.where[number]


@given(number=numbers)
def test_a_line_that_was_altered_with_its_digest_is_named(written: tuple[Path, chain.Head], number: int) -> None:
    place, head = written
    with copied(place) as copy:
        changed = redone(copy.lines[number], actor="somebody else")
        verdict = copy.put([*copy.lines[:number], changed, *copy.lines[number + 1 :]])
        if number < LINES - 1:
            assert verdict.place == copy.where[number]
        else:  # only somebody who holds the head can know
            assert verdict.trouble is None
        assert verify(copy.place, [head]).place == copy.where[number]


@given(number=numbers, count=st.integers(1, 5))
def test_missing_lines_are_named_at_the_line_after_them(
    written: tuple[Path, chain.Head], number: int, count: int
) -> None:
    place, head = written
    with copied(place) as copy:
        gone = range(number, min(number + count, LINES))
        verdict = copy.put([[] if place in gone else line for place, line in enumerate(copy.lines)])
        if gone.stop == LINES:
            assert verdict.trouble is None
            assert "missing at the end" in str(verify(copy.place, [head]).trouble)
        else:
            after = copy.where[gone.stop]
            same_file = [where for where in copy.where[: gone.start] if where.file == after.file]
            assert verdict.place == Place(after.file, len(same_file) + 1)
            numbered = f"line {number + 1} is" if len(gone) == 1 else f"lines {number + 1} to {gone.stop} are"
            assert f"{numbered} missing before it" in str(verdict.trouble)


@given(first=numbers, second=numbers)
def test_swapped_lines_are_named_at_the_first_of_them(
    written: tuple[Path, chain.Head], first: int, second: int
) -> None:
    first, second = sorted((first, second))
    with copied(written[0]) as copy:
        lines = list(copy.lines)
        lines[first], lines[second] = lines[second], lines[first]
        verdict = copy.put(list(lines))
        assert verdict.place == (None if first == second else copy.where[first])


@given(number=numbers, source=numbers, forged=st.booleans())
def test_a_line_that_was_put_in_is_named(
    written: tuple[Path, chain.Head], number: int, source: int, *, forged: bool
) -> None:
    with copied(written[0]) as copy:
        extra = redone(copy.lines[number], actor="somebody else") if forged else copy.lines[source]
        lines: list[bytes | list[bytes]] = list(copy.lines)
        lines[number] = [extra, copy.lines[number]]
        verdict = copy.put(lines)
        here = copy.where[number]
        # A copy of the line itself stands beside it: which of the two was there first, nobody can say.
        assert verdict.place in {here, Place(here.file, here.line + 1)} | (
            {copy.where[number - 1]} if not forged and source == number - 1 else set()
        )


def test_oldest_files_may_go_if_a_head_vouches_for_the_rest(written: tuple[Path, chain.Head]) -> None:
    with copied(written[0]) as copy:
        first = copy.where[0].file
        last = max(place for place, where in enumerate(copy.where) if where.file == first)
        head = chain.decode(copy.lines[last]).head
        (copy.place / first).unlink()
        assert f"lines 1 to {head.sequence} are missing" in str(verify(copy.place).trouble)
        assert verify(copy.place, [head]).trouble is None
        assert verify(copy.place, [chain.Head(head.sequence, "0" * 64)]).place == copy.where[last + 1]
