"""What refusals have in common: one sentence, the documented exit code, nothing lost. And syncs held in mid-stream."""

import contextlib
import re
import subprocess
from collections.abc import Iterator

from tests.end_to_end.gate import Gate
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import Outcome, Pair

_ANOTHER_SENTENCE = re.compile(r"[.!?]\s+[A-Z]")
_COMMAND_SECONDS = 120.0
MANY, MIDDLE = 6 << 20, 1 << 20
"""Bytes that the guest writes before a sync that is held, and bytes that pass before it is."""


def sentence(outcome: Outcome, code: int, *words: str) -> str:
    """The one sentence of a command without ``--json`` that ended with ``code``; it must contain ``words``.

    Steps and log lines may come before it, nothing may come after.
    """
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.out + outcome.err, outcome.err
    assert outcome.out == ""
    *_, last = outcome.err.splitlines()
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert errors == [last], outcome.err
    text = last.removeprefix("error: ")
    print(text)
    assert not _ANOTHER_SENTENCE.search(text), text
    assert "::" not in text.replace("[::", ""), text
    assert ": " in text, f"what to do is missing: {text}"
    for word in words:
        assert word in text, (word, text)
    return text


@contextlib.contextmanager
def syncing(ledger: Ledger, gate: Gate, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A sync that is held in its middle when the block begins; the block lets it go on, or not, and waits for it."""
    ledger.write(MANY)
    gate.hold_after(MIDDLE)
    process = ledger.pair.start_source("sync", ledger.vm, *words)
    try:
        gate.wait_held()
        assert len(ledger.staged()) == 1
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> Outcome:
    """A command that was started, at its end."""
    out, err = process.communicate(timeout=_COMMAND_SECONDS)
    return Outcome(process.returncode, out, err)


@contextlib.contextmanager
def away(pair: Pair) -> Iterator[None]:
    """The block ends the appliance; afterwards it serves again."""
    try:
        yield
        assert pair.appliance is None or pair.appliance.process.poll() is not None
    finally:
        if pair.appliance is not None:
            pair.appliance.kill()
        pair.serve()


@contextlib.contextmanager
def unharmed(ledger: Ledger, *, source_clean: bool = True) -> Iterator[None]:
    """Whatever is refused in the block, and mended at its end, costs nothing: no point, no trace, no next sync.

    Args:
        ledger: has points already.
        source_clean: nothing may be left at the source even before the next sync cleans up.
    """
    ledger.write()
    yield
    assert ledger.held() == sorted(ledger.points)
    if source_clean:
        ledger.check_source()
    ledger.sync()
    ledger.check()
    ledger.check_source()
