"""What every store driver must do, the fault wrapper included."""

import subprocess
import sys
import threading

import pytest

from common.errors import AlreadyExistsError, BusyError, InternalError, NotFoundError, StoreError
from target_appliance.store.memory import MemoryStore
from target_appliance.store.posix import PosixStore
from tests.faults.store import FaultStore


@pytest.fixture(params=["posix", "memory", "faults"])
def store(request, tmp_path):
    match request.param:
        case "posix":
            store = PosixStore(tmp_path)
            yield store
            store.close()
        case "memory":
            yield MemoryStore()
        case _:
            yield FaultStore(MemoryStore())


def put(store, path, content):
    with store.create(path) as file:
        file.append([content])
        file.sync()


def content(store, path):
    with store.open(path) as file:
        return file.read_at(0, file.size)


def test_appended_pieces_follow_one_another(store):
    with store.create("a") as file:
        file.append([b"12", bytearray(b"345"), memoryview(b"67"), b""])
        file.append([])
        assert file.position == 7
        file.append([b"8"] * 2000)
        file.sync()

    assert content(store, "a") == b"1234567" + b"8" * 2000


def test_buffers_stay_the_callers(store):
    buffer = bytearray(b"before")
    with store.create("a") as file:
        file.append([buffer])
        buffer[:] = b"after!"

    assert content(store, "a") == b"before"


def test_overwrite_replaces_what_was_written(store):
    with store.create("a") as file:
        file.append([b"0123456789"])
        file.overwrite(2, b"xyz")
        assert file.position == 10
        file.append([b"."])
        with pytest.raises(ValueError):
            file.overwrite(9, b"too far")

    assert content(store, "a") == b"01xyz56789."


def test_a_file_is_created_once(store):
    put(store, "a", b"first")

    with pytest.raises(AlreadyExistsError):
        store.create("a")
    assert content(store, "a") == b"first"


def test_a_file_is_written_on_after_it_was_closed(store):
    put(store, "a", b"0123456789")

    with store.reopen("a", 7) as file:
        assert file.position == 7
        file.overwrite(1, b"x")
        file.append([b"new", b"er"])
        file.sync()
        assert file.position == 12

    assert content(store, "a") == b"0x23456newer"


def test_what_cannot_be_written_on(store):
    put(store, "short", b"012")
    put(store, "protected", b"0123456789")
    store.protect("protected")
    store.make_folder("folder")

    with pytest.raises(NotFoundError):
        store.reopen("absent", 0)
    for path in ("short", "protected", "folder"):
        with pytest.raises((StoreError, NotFoundError)):
            store.reopen(path, 4)
    assert content(store, "short") == b"012"
    assert content(store, "protected") == b"0123456789"


def test_a_file_needs_its_folder(store):
    with pytest.raises(NotFoundError):
        store.create("no/such")
    with pytest.raises(NotFoundError):
        store.open("no/such")
    with pytest.raises(NotFoundError):
        store.open("absent")


def test_a_folder_is_not_a_file(store):
    store.make_folder("a/b")

    with pytest.raises(StoreError):
        store.open("a")
    with pytest.raises(AlreadyExistsError):
        store.create("a")


def test_reading_stops_at_the_end(store):
    put(store, "a", b"0123456789")

    with store.open("a") as file:
        assert file.size == 10
        assert file.read_at(3, 4) == b"3456"
        assert file.read_at(8, 100) == b"89"
        assert file.read_at(10, 1) == b""
        assert file.read_at(50, 1) == b""


def test_folders_are_made_with_their_parents_and_again(store):
    store.make_folder("a/b/c")
    store.make_folder("a/b/c")
    put(store, "a/b/c/file", b"x")

    assert store.names("a") == ("b",)
    assert store.names("a/b/c") == ("file",)


def test_names_are_sorted_and_empty_where_nothing_is(store):
    store.make_folder("a")
    for name in ("b", "a", "C", "10", "9"):
        put(store, f"a/{name}", b"")

    assert store.names("a") == ("10", "9", "C", "a", "b")
    assert store.names("absent") == ()
    assert store.names("absent/below") == ()


def test_rename_moves_a_folder_with_all_in_it(store):
    store.make_folder("staging/x/deep")
    store.make_folder("points")
    put(store, "staging/x/deep/file", b"x")

    store.rename("staging/x", "points/1")
    store.sync_folder("points")

    assert content(store, "points/1/deep/file") == b"x"
    assert store.names("staging") == ()


@pytest.mark.parametrize("filled", [True, False])
def test_rename_never_replaces_a_folder(store, filled):
    store.make_folder("old")
    store.make_folder("new")
    if filled:
        put(store, "new/file", b"kept")

    with pytest.raises(AlreadyExistsError):
        store.rename("old", "new")
    assert store.names("new") == (("file",) if filled else ())
    assert "old" not in store.names("new")


def test_rename_replaces_a_file(store):
    store.make_folder("a")
    put(store, "a/old", b"new content")
    put(store, "a/new", b"old content")

    store.rename("a/old", "a/new")

    assert store.names("a") == ("new",)
    assert content(store, "a/new") == b"new content"


def test_rename_does_not_put_a_file_over_a_folder(store):
    store.make_folder("folder")
    put(store, "file", b"x")

    with pytest.raises((AlreadyExistsError, StoreError)):
        store.rename("file", "folder")
    with pytest.raises(AlreadyExistsError):
        store.rename("folder", "file")
    assert content(store, "file") == b"x"


def test_rename_of_nothing(store):
    store.make_folder("a")

    with pytest.raises(NotFoundError):
        store.rename("a/absent", "a/new")
    with pytest.raises(NotFoundError):
        store.rename("a", "absent/new")


def test_remove_tree(store):
    store.make_folder("a/b")
    put(store, "a/b/file", b"x")
    store.protect("a/b/file")
    put(store, "ab", b"neighbour")

    store.remove_tree("a")
    store.remove_tree("a")
    store.remove_tree("never/was")

    assert store.names("a") == ()
    assert content(store, "ab") == b"neighbour"


def test_sync_and_protect_need_something(store):
    with pytest.raises(NotFoundError):
        store.sync_folder("absent")
    with pytest.raises(NotFoundError):
        store.protect("absent")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", ".", "a\0b", "x" * 300])
def test_no_path_leaves_the_store(store, path):
    for call in (store.create, store.open, store.names, store.make_folder, store.remove_tree, store.protect):
        with pytest.raises(InternalError):
            call(path)


def test_a_file_reads_from_several_threads(store):
    put(store, "a", bytes(range(256)) * 64)
    wrong = []

    def read(start):
        wrong.extend(
            offset
            for offset in range(start, 16000, 7)
            if file.read_at(offset, 3) != bytes((offset + place) % 256 for place in range(3))
        )

    with store.open("a") as file:
        threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []


def test_free_bytes(store):
    assert store.free_bytes() > 0


def test_a_lock_is_held_by_one_thread_at_a_time(store):
    store.make_folder("a")
    inside, most = [], []

    def work():
        for _ in range(20):
            with store.lock("a/lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == [1] * 80


def test_a_lock_is_let_go_of_by_what_is_raised_and_not_waited_for_for_ever(store, monkeypatch):
    for module in ("posix", "memory"):
        monkeypatch.setattr(f"target_appliance.store.{module}.LOCK_SECONDS", 0.05)
    with pytest.raises(KeyError), store.lock("lock"):
        raise KeyError
    with store.lock("lock"), store.lock("another"):
        for _ in range(2):
            with pytest.raises(BusyError), store.lock("lock"):
                pass
    with store.lock("lock"):
        pass


def test_a_shared_lock_is_held_by_many_and_keeps_out_who_wants_to_be_alone(store):
    together = store.lock("lock", shared=True), store.lock("lock", shared=True, seconds=0)
    with together[0], together[1], pytest.raises(BusyError), store.lock("lock", seconds=0):
        pass
    with store.lock("lock", seconds=0), pytest.raises(BusyError), store.lock("lock", shared=True, seconds=0.05):
        pass
    with store.lock("lock", seconds=0):
        pass


def test_a_shared_lock_may_end_in_another_thread(store):
    held = store.lock("lock", shared=True)
    held.__enter__()
    thread = threading.Thread(target=held.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    with store.lock("lock", seconds=0):
        pass


def test_a_lock_needs_its_folder(store):
    with pytest.raises(NotFoundError), store.lock("nowhere/lock"):
        pass


def test_a_posix_lock_holds_against_another_process_and_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("target_appliance.store.posix.LOCK_SECONDS", 0.05)
    code = (
        "import pathlib, sys; from target_appliance.store.posix import PosixStore\n"
        "with PosixStore(pathlib.Path(sys.argv[1])).lock('lock'): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    store = PosixStore(tmp_path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyError), store.lock("lock"):
            pass
        other.kill()
        other.wait()
        with store.lock("lock"):
            pass
    store.close()


@pytest.mark.parametrize("protected", [False, True])
def test_a_shredded_file_is_gone_and_held_zeros_before(store, protected):
    store.make_folder("a")
    put(store, "a/b", b"x" * 100_000)
    if protected:
        store.protect("a/b")
    with store.open("a/b") as open_still:
        store.shred("a/b")
        assert open_still.read_at(0, 100_000) == bytes(100_000)
    assert store.names("a") == ()
    store.shred("a/b")
    store.shred("nowhere/b")
