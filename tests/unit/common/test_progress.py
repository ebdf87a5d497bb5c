import pytest

from common.progress import counted


def test_a_terminal_gets_a_bar_that_ends_full(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard error for a terminal
    with counted("verify web01", 4 << 20) as progress:
        for _ in range(4):
            progress(1 << 20)
    shown = capsys.readouterr().err
    assert "verify web01" in shown
    assert "4.0/4.0 MiB" in shown


@pytest.mark.parametrize("total", [None, 4 << 20])
def test_elsewhere_a_short_run_says_nothing(capsys, total):
    with counted("verify web01", total) as progress:
        progress(1 << 20)
    assert capsys.readouterr() == ("", "")
