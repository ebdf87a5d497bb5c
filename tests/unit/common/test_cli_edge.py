import json
import logging

import pytest
import structlog
import typer

from common import log
from common.cli_edge import edge, emit, printable, say, table
from common.errors import (
    BY_REASON,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    BusyError,
)


def ends(raise_what, *, as_json=False):
    """The exit code of a command whose body raises."""
    with pytest.raises(typer.Exit) as ended, edge(as_json=as_json):
        raise raise_what
    return ended.value.exit_code


def break_with_a_secret_at_hand(parts):
    passphrase = "-".join(parts)
    raise RuntimeError(f"{len(passphrase)} characters")


@pytest.mark.parametrize("kind", BY_REASON.values(), ids=BY_REASON)
def test_each_error_is_a_sentence_and_its_exit_code(kind, capsys):
    error = kind("it broke", subject="vm web01", next_step="mend it")
    assert ends(error) == kind.exit_code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: it broke: mend it\n")
    assert ends(error, as_json=True) == kind.exit_code
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["error"] == {
        "reason": kind.reason,
        "message": "it broke",
        "subject": "vm web01",
        "next_step": "mend it",
        "fault": kind.fault.value,
        "retryable": kind.retryable,
        "notes": [],
    }


def test_what_clean_up_left_is_told_with_the_error(capsys):
    error = BusyError("busy", subject="vm web01", next_step="wait")
    error.add_note("snapshot left behind")
    ends(error)
    assert capsys.readouterr().err == "error: busy: wait; snapshot left behind\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_an_unknown_failure_shows_neither_its_text_nor_a_traceback(capsys, as_json):
    assert ends(RuntimeError("password=hunter2"), as_json=as_json) == EXIT_INTERNAL
    out, err = capsys.readouterr()
    assert "RuntimeError" in out + err
    assert "debug" in out + err
    assert "hunter2" not in out + err
    assert "Traceback" not in out + err


def test_an_unknown_failure_has_a_traceback_at_level_debug_without_local_variables(capsys):
    log.configure(level="debug")
    with pytest.raises(typer.Exit) as ended, edge(as_json=False):
        break_with_a_secret_at_hand(["hunter", "2"])
    assert ended.value.exit_code == EXIT_INTERNAL
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "hunter-2" not in err


def test_logging_is_safe_before_the_configuration_is_read():
    structlog.reset_defaults()
    with edge(as_json=False):
        assert structlog.is_configured()
    assert logging.getLogger().level == logging.WARNING


def test_the_operating_systems_refusal_names_the_file(tmp_path, capsys):
    with pytest.raises(typer.Exit) as ended, edge(as_json=False):
        (tmp_path / "missing").read_bytes()
    assert ended.value.exit_code == EXIT_REFUSED
    err = capsys.readouterr().err
    assert str(tmp_path / "missing") in err
    assert "No such file or directory" in err
    assert ends(OSError("odd")) == EXIT_REFUSED


def test_an_interrupt_ends_with_130(capsys):
    assert ends(KeyboardInterrupt()) == EXIT_INTERRUPTED
    assert capsys.readouterr().err == "error: interrupted\n"
    assert ends(KeyboardInterrupt(), as_json=True) == EXIT_INTERRUPTED
    assert capsys.readouterr() == ("", "")


def test_a_chosen_exit_passes():
    assert ends(typer.Exit(6)) == 6
    with pytest.raises(BrokenPipeError), edge(as_json=False):
        raise BrokenPipeError


def test_a_result_is_one_json_object_or_lines(capsys):
    emit({"vm": "wéb\n"}, ["ignored"], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"vm": "wéb\n"}
    emit({}, ["one", "two"], as_json=False)
    assert capsys.readouterr().out == "one\ntwo\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web01, Büro", "web01, Büro"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two\\x0alines"),
        ("bell\a", "bell\\x07"),
        ("\u202eright to left", "\\x202eright to left"),
        ("tab\t", "tab\\x09"),
    ],
)
def test_nothing_steers_the_terminal(text, shown, capsys):
    assert printable(text) == shown
    say(text)
    assert capsys.readouterr().err == shown + "\n"
    assert table(["name"], [[text]])[1] == shown


def test_a_table_is_as_wide_as_its_widest_cells():
    assert table(("vm", "n"), [("web01", "1"), ("x", "22")]) == ["vm     n", "web01  1", "x      22"]
    assert table(("vm", "n"), []) == ["vm  n"]
