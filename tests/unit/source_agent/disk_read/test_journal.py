import subprocess
import sys

import pytest

from source_agent.disk_read.hotadd.journal import Journal


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "hotadd"


def orphans(journal):
    with journal.orphans() as found:
        return [one for orphan in found for one in orphan.attachments]


def test_nothing_is_written_before_something_is_attached(folder):
    Journal(folder).close()
    assert not folder.exists()


def test_a_clean_end_leaves_no_file(folder):
    journal = Journal(folder)
    entry = journal.intend("vm-1", "[ds] w.vmdk", "u-1")
    journal.attached(entry, 2001)
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    (file,) = folder.iterdir()
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    journal.detached(entry)
    journal.close()
    journal.close()
    assert list(folder.iterdir()) == []


def test_a_living_journal_is_no_orphan(folder):
    living, other = Journal(folder), Journal(folder)
    entry = living.intend("vm-1", "[ds] w.vmdk", "u-1")
    living.attached(entry, 2001)
    assert orphans(other) == []
    assert [(one.key, one.backing_path) for one in other.living()] == [(2001, "[ds] w.vmdk")]
    assert [one.key for one in living.living()] == [2001]
    living.close()
    (left,) = orphans(other)
    assert (left.vm, left.backing_path, left.uuid, left.key) == ("vm-1", "[ds] w.vmdk", "u-1", 2001)
    assert other.living() == []


def test_orphans_do_not_look_alive_to_the_one_that_holds_them(folder):
    dead, other, third = Journal(folder), Journal(folder), Journal(folder)
    dead.intend("vm-1", "[ds] w.vmdk", "u-1")
    dead.close()
    with other.orphans() as found:
        assert len(found) == 1
        assert other.living() == []
        assert len(third.living()) == 1
        assert orphans(third) == []
    assert other.living() == []


def test_an_orphan_stays_until_it_is_settled(folder):
    dead, other = Journal(folder), Journal(folder)
    dead.intend("vm-1", "[ds] w.vmdk", "u-1")
    dead.close()
    assert len(orphans(other)) == 1
    with other.orphans() as found:
        found[0].settle()
    assert orphans(other) == []
    assert list(folder.iterdir()) == []


def test_what_was_detached_is_not_left_over_and_a_torn_line_is_skipped(folder):
    dead = Journal(folder)
    first = dead.intend("vm-1", "[ds] a.vmdk", "u-1")
    dead.attached(first, 2001)
    dead.intend("vm-1", "[ds] b.vmdk", "")
    dead.detached(first)
    (file,) = folder.iterdir()
    dead.close()
    with file.open("ab") as torn:
        torn.write(b'{"number": 2, "what": "atta')
    (left,) = orphans(Journal(folder))
    assert (left.backing_path, left.key) == ("[ds] b.vmdk", None)


@pytest.mark.parametrize("line", [b"[]", b"null", b"{}", b'{"number": 9, "what": "attached", "key": 1}', b"\xff"])
def test_rubbish_is_skipped(folder, line):
    dead = Journal(folder)
    dead.intend("vm-1", "[ds] a.vmdk", "u-1")
    (file,) = folder.iterdir()
    dead.close()
    file.write_bytes(line + b"\n" + file.read_bytes())
    assert len(orphans(Journal(folder))) == 1


CHILD = """
import sys, time
from pathlib import Path
from source_agent.disk_read.hotadd.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.attached(journal.intend("vm-1", "[ds] w.vmdk", "u-1"), 2001)
print("written", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_leaves_an_orphan(folder):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout.readline() == b"written\n"
        journal = Journal(folder)
        assert orphans(journal) == []
        assert [one.key for one in journal.living()] == [2001]
        child.kill()
        child.wait()
        assert [one.key for one in orphans(journal)] == [2001]
