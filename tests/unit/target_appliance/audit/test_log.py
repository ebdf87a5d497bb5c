import hashlib
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import StoreError, StoreFullError
from target_appliance.audit import chain
from target_appliance.audit.check import Place, read, verify
from target_appliance.audit.event import Event, What, Who
from target_appliance.audit.log import AuditLog
from tests.fakes.clock import ManualClock
from tests.unit.target_appliance.audit.conftest import AGENT, event

Make = Callable[..., AuditLog]


def members(place: Path) -> list[dict]:
    return [raw.line.members for raw in read(place) if raw.line is not None]


def test_a_line_tells_who_did_what_to_which_object(make: Make, place: Path) -> None:
    make().append(event(7))
    (told,) = members(place)
    assert told["time"] == "2026-11-24T12:00:00.000Z"
    assert (told["role"], told["actor"], told["tenant"]) == ("agent", AGENT.actor, "acme")
    assert (told["what"], told["object"], told["outcome"]) == ("sync-begun", "replica 7", "ok")
    assert (told["sequence"], told["previous"], told["facts"]) == (1, "0" * 64, {"number": 7})
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "000001.jsonl").stat().st_mode) == 0o600


def test_lines_can_be_checked_with_what_every_machine_has(make: Make, place: Path) -> None:
    make().append(event(1), event(2))
    first, second = (place / "000001.jsonl").read_text().splitlines()
    digest = json.loads(first)["~digest"]
    without = first.replace(f',"~digest":"{digest}"', "")
    told = subprocess.run(["sha256sum"], input=without + "\n", text=True, capture_output=True, check=True).stdout
    assert told[:64] == digest
    assert json.loads(second)["previous"] == digest


def test_it_goes_on_over_processes_and_files(make: Make, place: Path) -> None:
    first, second = make(rotate_bytes=2000), make(rotate_bytes=2000)
    for number in range(20):
        head = (first, second)[number % 2].append(event(number))
    assert head.sequence == 20
    verdict = verify(place)
    assert (verdict.trouble, verdict.head, verdict.first) == (None, head, 1)
    assert verdict.files > 3
    assert make().head() == second.head() == head


def test_many_processes_write_one_chain(place: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(place, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    verdict = verify(place)
    assert (verdict.trouble, verdict.head and verdict.head.sequence) == (None, 4 * 50)
    for number in range(4):
        assert [one["facts"]["number"] for one in members(place) if one["object"] == f"writer {number}"] == [*range(50)]


def _write_many(place: Path, number: int) -> None:
    writer = AuditLog(place, ManualClock(), rotate_bytes=5000)
    for count in range(50):
        writer.append(Event(What.COMMAND, AGENT, f"writer {number}", facts={"number": count}))


@pytest.mark.parametrize("left", [1, 10, -2, -1])
def test_a_line_that_a_crash_cut_is_healed_where_everybody_sees_it(make: Make, place: Path, left: int) -> None:
    make().append(event(1), event(2))
    file = place / "000001.jsonl"
    first, second = file.read_bytes().splitlines(keepends=True)
    torn = second[:left]
    file.write_bytes(first + torn)
    assert verify(place).torn
    assert verify(place).trouble is None

    head = make().append(event(3))

    verdict = verify(place)
    assert (verdict.trouble, verdict.torn, verdict.head) == (None, False, head)
    healed = next(one for one in members(place) if one["what"] == "log-healed")
    assert healed["facts"]["torn_sha256"] == hashlib.sha256(torn + b"\n").hexdigest()
    if left == -1:  # nothing but the newline was missing: the line counts
        assert [one["object"] for one in members(place)] == ["replica 1", "replica 2", "audit log", "replica 3"]
    else:
        assert verdict.healed == (Place("000001.jsonl", 2),)
        assert [one["object"] for one in members(place)] == ["replica 1", "audit log", "replica 3"]


def test_a_crash_while_healing_is_healed_too(make: Make, place: Path) -> None:
    make().append(event(1))
    file = place / "000001.jsonl"
    with file.open("ab") as more:
        more.write(b'{"facts":\n{"actor":')
    head = make().append(event(2))
    assert (verify(place).trouble, verify(place).head) == (None, head)
    # What heals must describe what it heals.
    file.write_bytes(file.read_bytes().replace(b'{"facts":\n', b'{"fakts":\n'))
    verdict = verify(place)
    assert verdict.place == Place("000001.jsonl", 2)


def test_a_last_line_that_was_altered_is_named_also_when_the_log_goes_on(make: Make, place: Path) -> None:
    make().append(event(1), event(2))
    file = place / "000001.jsonl"
    file.write_bytes(file.read_bytes().replace(b"replica 2", b"replica 9"))
    make().append(event(3))
    verdict = verify(place)
    assert verdict.place == Place("000001.jsonl", 2)
    assert "altered" in str(verdict.trouble)


def test_a_file_that_was_only_begun(make: Make, place: Path) -> None:
    head = make().append(event(1))
    (place / "000002.jsonl").touch()
    assert make().head() == head
    assert make().append(event(2)).sequence == 2
    assert verify(place).trouble is None
    assert (place / "000002.jsonl").stat().st_size > 0


def test_a_killed_writer_leaves_a_log_that_goes_on(make: Make, place: Path) -> None:
    """Killed while it writes as fast as it can, at whatever place that is."""
    code = """
        import sys
        from pathlib import Path
        from target_appliance.audit.event import Event, What, Who
        from target_appliance.audit.log import AuditLog
        from common.clock import SystemClock
        writer = AuditLog(Path(sys.argv[1]), SystemClock(), rotate_bytes=20000)
        while True:
            print(writer.append(Event(What.COMMAND, Who("operator"), "x" * 900)).sequence, flush=True)
    """
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), place], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(60)]
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].splitlines()
        last = int(next(line for line in [*reversed(rest), *reversed(told)] if line.strip()))
        verdict = verify(place)
        assert verdict.trouble is None
        assert verdict.head is not None
        assert verdict.head.sequence >= last  # what was answered is there
        make().append(event())
        assert verify(place).trouble is None


def test_a_log_that_shrank_is_not_gone_on_with(make: Make, place: Path) -> None:
    log = make()
    log.append(event(1), event(2), event(3))
    file = place / "000001.jsonl"
    content = file.read_bytes()
    file.write_bytes(b"".join(content.splitlines(keepends=True)[:2]))
    for refused in (lambda: log.append(event(4)), log.head):
        with pytest.raises(StoreError, match="line 3"):
            refused()
    file.unlink()
    with pytest.raises(StoreError, match="which is gone"):
        log.append(event(4))
    file.write_bytes(content)
    assert log.append(event(4)).sequence == 4


def test_a_tail_that_no_crash_leaves_is_refused(make: Make, place: Path) -> None:
    make().append(event(1))
    with (place / "000001.jsonl").open("ab") as more:
        more.write(b"x" * (3 * chain.MOST_LINE))
    with pytest.raises(StoreError, match="does not end in a line"):
        make().append(event(2))


def test_a_log_that_cannot_be_written_says_so(make: Make, place: Path, tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("no folder")
    with pytest.raises(StoreError, match="nothing new is accepted or read"):
        make().append(event())
    with pytest.raises(StoreError):
        make().head()


def test_a_full_volume(make: Make, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make()
    log.append(event(1))
    original = os.write
    sizes = iter([100])

    def filled(handle: int, content: memoryview) -> int:
        try:
            return original(handle, content[: next(sizes)])
        except StopIteration:
            raise OSError(28, "No space left on device") from None

    monkeypatch.setattr(os, "write", filled)
    with pytest.raises(StoreFullError, match="No space left"):
        log.append(event(2))
    monkeypatch.undo()
    assert log.append(event(3)).sequence == 3  # after the line that heals
    assert verify(place).trouble is None
    assert [one["object"] for one in members(place)] == ["replica 1", "audit log", "replica 3"]


def test_who_acts_is_told_by_thread(make: Make, place: Path) -> None:
    log = make(who=Who("operator", "root"))
    assert log.who == Who("operator", "root")
    with log.acting(AGENT):
        assert log.who == AGENT
        with log.acting(Who("admin")):
            assert log.who == Who("admin")
        assert log.who == AGENT
    assert log.who == Who("operator", "root")


@pytest.mark.parametrize("facts", [{"dek": "00"}, {"password": "x"}, {"one_time_token": 1}, {"data": b"guest"}])
def test_what_smells_of_a_secret_is_refused(make: Make, place: Path, facts: dict) -> None:
    with pytest.raises(ValueError, match="takes no fact"):
        make().append(Event(What.COMMAND, AGENT, "x", facts=facts))
    assert verify(place).head is None


def test_texts_are_bounded_and_lines_stay_lines(make: Make, place: Path) -> None:
    make().append(Event(What.REFUSED, AGENT, "n\newline\u2028 " + "x" * 100_000, facts={"cause": "y" * 100_000}))
    assert (place / "000001.jsonl").stat().st_size < 8000
    assert (place / "000001.jsonl").read_bytes().count(b"\n") == 1


def test_heads_go_to_the_ordinary_log_now_and_then(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    from common import log

    log.configure(style="json")
    writer = make(head_every=10)
    for number in range(25):
        writer.append(event(number))
    heads = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["event"], one["sequence"]) for one in heads] == [("audit head", 10), ("audit head", 20)]
    assert len(heads[0]["digest"]) == 64
