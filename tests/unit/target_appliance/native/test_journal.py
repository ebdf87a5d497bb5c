import pytest

from common.errors import BusyError, StoreError
from common.ids import DiskKey
from target_appliance.native.journal import Journal, State

STATE = State("f00d", "web01", 3, test=False)


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "failovers", "replica", test=False)
    with made.held():
        yield made


def test_what_is_written_is_read(journal):
    assert journal.read() is None
    journal.write(STATE.with_disk(DiskKey(2000)))
    assert journal.read() == State("f00d", "web01", 3, test=False, written=(DiskKey(2000),))
    journal.forget()
    assert journal.read() is None


def test_a_disk_that_is_to_be_written_again_is_not_complete():
    both = STATE.with_disk(DiskKey(2000)).with_disk(DiskKey(2001))
    assert both.without_disk(DiskKey(2000)).written == (DiskKey(2001),)


def test_a_test_has_a_journal_of_its_own(journal, tmp_path):
    journal.write(STATE)
    assert Journal(tmp_path / "failovers", "replica", test=True).read() is None


def test_one_command_at_a_time(journal, tmp_path):
    again = Journal(tmp_path / "failovers", "replica", test=False)
    with pytest.raises(BusyError), again.held():
        pass


def test_what_is_set_aside_is_kept(journal):
    journal.write(STATE)
    journal.set_aside(STATE)
    journal.write(State("beef", "web01-beef", 4, test=False))
    assert journal.aside() == (STATE,)
    journal.forget()
    assert journal.aside() == (STATE,)
    journal.drop(STATE)
    assert journal.aside() == ()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"failover": 1, "written": []}', b'{"written": null}'])
def test_a_journal_that_cannot_be_read_is_not_taken_for_none(journal, tmp_path, content):
    (tmp_path / "failovers" / "replica.live.json").write_bytes(content)
    with pytest.raises(StoreError, match="cannot be read"):
        journal.read()
