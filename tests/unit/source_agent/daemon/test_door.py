import stat
import threading

import pytest

from common.clock import SystemClock
from common.errors import BusyError, ConfigError, NotFoundError
from source_agent.daemon import door
from source_agent.daemon.ask import status_of

AGENT = {
    "running": True,
    "stopping": False,
    "written": "2020-11-24T12:00:00+00:00",
    "target": "reachable",
    "vcenter": "it does not answer",
    "config_error": None,
}
PARK = 4 * 3600.0
ROW = {
    "vm": "web01",
    "replica": "r",
    "point": 3,
    "point_time": "2020-11-24T11:00:00+00:00",
    "age_seconds": 60.0,
    "rpo_seconds": 900.0,
    "rpo": "kept",
    "missed_since": None,
    "cause": None,
    "why": None,
    "error": None,
    "next_run": None,
    "waiting_for": None,
    "running": {"since": "2020-11-24T11:59:00+00:00", "seconds": 60.0, "bytes_read": 5, "bytes_total": 10},
}
DOCUMENT = {"agent": AGENT, "vms": [ROW]}


def test_whoever_asks_gets_the_document(tmp_path):
    with door.answering(tmp_path, lambda: DOCUMENT):
        assert stat.S_IMODE((tmp_path / "run.sock").stat().st_mode) == 0o600
        assert door.ask(tmp_path) == DOCUMENT
        document, lines = status_of(tmp_path, SystemClock(), PARK)
    assert document == DOCUMENT
    assert lines[0] == "vcenter: it does not answer"
    assert lines[-1].split() == ["web01", "3", "1m", "15m", "kept", "-", "syncing", "for", "1m,", "50", "%", "read"]
    assert door.ask(tmp_path) is None


def test_many_may_ask_at_once(tmp_path):
    answers = []
    with door.answering(tmp_path, lambda: DOCUMENT):
        askers = [threading.Thread(target=lambda: answers.append(door.ask(tmp_path))) for _ in range(16)]
        for one in askers:
            one.start()
        for one in askers:
            one.join()
    assert answers == [DOCUMENT] * 16


def test_a_socket_that_a_crash_left_is_no_obstacle(tmp_path):
    (tmp_path / "run.sock").write_text("stale")
    with door.answering(tmp_path, lambda: DOCUMENT):
        assert door.ask(tmp_path) == DOCUMENT


def test_a_path_too_long_for_a_socket_is_refused_in_words(tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with pytest.raises(ConfigError, match="cannot be made"), door.answering(folder, lambda: DOCUMENT):
        pass


def test_without_an_agent_what_the_last_one_left_is_shown_as_old(tmp_path):
    door.save(tmp_path, DOCUMENT)
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
    document, lines = status_of(tmp_path, SystemClock(), PARK)
    assert document["agent"]["running"] is False
    row = document["vms"][0]
    assert (row["running"], row["rpo"], row["cause"]) == (None, "missed", "agent-stopped")
    assert row["age_seconds"] > 900
    assert lines[0].startswith("no agent is running; this is what the last one left at 2020-11-24T12:00:00")


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"vms": 3}'])
def test_without_anything_it_says_so(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(NotFoundError, match="no agent runs"):
        status_of(tmp_path, SystemClock(), PARK)


def test_one_agent_per_state_folder(tmp_path):
    with (
        door.only_one(tmp_path / "state"),
        pytest.raises(BusyError, match="another source-agent run"),
        door.only_one(tmp_path / "state"),
    ):
        pass
    with door.only_one(tmp_path / "state"):
        pass


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"), door.only_one(tmp_path / "file" / "state"):
        pass
