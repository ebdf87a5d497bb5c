"""Where both commands end: results and errors to the terminal or to JSON, and the exit code.

Results go to standard output, one JSON object with ``--json``. Errors are one sentence on standard error, or one JSON
object on standard output; never a traceback, except at log level debug for what nobody expected.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
import typer

from common import log
from common.errors import EXIT_INTERRUPTED, InternalError, KeysapartError, PreconditionError


@contextmanager
def edge(*, as_json: bool) -> Iterator[None]:
    """Run a command's body; whatever it raises becomes a sentence and an exit code.

    Raises:
        typer.Exit: with the error's exit code; the only thing that leaves the block.
    """
    if not structlog.is_configured():
        log.configure()  # until the configuration is read; structlog's own defaults show local variables in tracebacks
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        if not as_json:
            say_error("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except KeysapartError as error:
        _fail(error, as_json=as_json)
    except OSError as error:
        _unexpected(error)
        _fail(_from_os_error(error), as_json=as_json)
    except Exception as error:  # noqa: BLE001  the one edge: whatever it is, the user gets a sentence
        _unexpected(error)
        _fail(_from_unknown(error), as_json=as_json)


def emit(result: Mapping[str, Any], lines: Sequence[str], *, as_json: bool) -> None:
    """Print a result: ``result`` as one JSON object, or ``lines`` for people."""
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=True, separators=(", ", ": ")) + "\n")
    else:
        for line in lines:
            sys.stdout.write(printable(line) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for people on standard error: notes and progress that are no result."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def say_error(text: str) -> None:
    """A failure, for people."""
    say(f"error: {text}")


def error_object(error: KeysapartError) -> dict[str, Any]:
    """What ``--json`` prints for a failure."""
    return {
        "error": {
            "reason": error.reason,
            "message": error.message,
            "subject": error.subject,
            "next_step": error.next_step,
            "fault": error.fault.value,
            "retryable": error.retryable,
            "notes": notes(error),
        }
    }


def notes(error: BaseException) -> list[str]:
    """What else there is to know of a failure: what its clean-up could not remove."""
    return list(getattr(error, "__notes__", ()))


def printable(text: str) -> str:
    """``text`` without what would steer a terminal: names come from vCenters and files."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a plain table: columns as wide as their widest cell, made printable first."""
    cells = [[printable(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _fail(error: KeysapartError, *, as_json: bool) -> None:
    if as_json:
        emit(error_object(error), (), as_json=True)
    else:
        say_error("; ".join((str(error), *notes(error))))
    raise typer.Exit(error.exit_code) from None


def _unexpected(error: BaseException) -> None:
    log.get("cli").debug("unexpected error", exc_info=error)


def _from_os_error(error: OSError) -> KeysapartError:
    where = f" {error.filename}" if error.filename else ""
    return PreconditionError(
        f"the operating system refused access to{where or ' a file or address'} ({error.strerror or error})",
        subject=f"file{where}",
        next_step="check that it exists, that this user may use it and that its volume has room",
    )


def _from_unknown(error: BaseException) -> KeysapartError:
    # The text of an unknown exception may hold anything, a secret included: only its type is shown.
    return InternalError(
        f"an unexpected {type(error).__name__} ended the command, which is a mistake in Keysapart",
        subject="command",
        next_step='set level = "debug" under [log], run it again and report the traceback that the log then shows',
    )
