"""The POSIX driver's own duties: links, modes, errors of the medium."""

import errno
import os
import resource
import stat
import subprocess
import sys

import pytest

from common.errors import AlreadyExistsError, NotFoundError, StoreError, StoreFullError
from target_appliance.store.posix import PosixStore
from target_appliance.store.posix_file import PosixWriteFile, translate


@pytest.fixture
def store(tmp_path):
    store = PosixStore(tmp_path)
    yield store
    store.close()


def test_modes_while_writing_and_after(store, tmp_path):
    store.make_folder("folder")
    with store.create("folder/file") as file:
        file.append([b"x"])
        assert stat.S_IMODE((tmp_path / "folder/file").stat().st_mode) == 0o600
    store.protect("folder/file")

    assert stat.S_IMODE((tmp_path / "folder/file").stat().st_mode) == 0o440
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


@pytest.fixture
def outside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_bytes(b"not the store's")
    return folder


def test_no_link_is_followed(store, tmp_path, outside):
    (tmp_path / "folder").symlink_to(outside)
    (tmp_path / "file").symlink_to(outside / "secret")
    (tmp_path / "dangling").symlink_to(outside / "made")

    with pytest.raises(StoreError):
        store.open("folder/secret")
    with pytest.raises(StoreError):
        store.open("file")
    with pytest.raises(StoreError):
        store.names("folder")
    with pytest.raises(StoreError):
        store.create("folder/new")
    with pytest.raises(StoreError):
        store.make_folder("folder/new")
    with pytest.raises(StoreError):
        store.remove_tree("folder")
    with pytest.raises(StoreError):
        store.protect("file")
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_create_does_not_write_through_a_link(store, tmp_path, outside):
    (tmp_path / "dangling").symlink_to(outside / "made")

    with pytest.raises(Exception, match="in the store already"):
        store.create("dangling")
    assert not (outside / "made").exists()


def test_a_planted_fifo_does_not_hang(store, tmp_path):
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(StoreError, match="not a regular file"):
        store.open("fifo")


def test_a_moved_root_stays_the_root(store, tmp_path):
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    tmp_path.mkdir()

    with store.create("file") as file:
        file.append([b"x"])

    assert (moved / "file").exists()
    assert not (tmp_path / "file").exists()


def test_a_missing_root_is_said_so(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened"):
        PosixStore(tmp_path / "absent")


def test_errors_name_the_path_within_the_store(store, tmp_path):
    with pytest.raises(NotFoundError) as caught:
        store.open("tenants/acme/tenant.json")

    assert caught.value.subject == "store file tenants/acme/tenant.json"
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_failed_once_fails_for_good(store):
    file = store.create("file")
    file.append([b"x"])
    os.close(file._descriptor)

    with pytest.raises(StoreError, match="Bad file descriptor"):
        file.sync()
    with pytest.raises(StoreError, match="an earlier write or sync of it failed"):
        file.sync()
    with pytest.raises(StoreError, match="an earlier write or sync of it failed"):
        file.append([b"y"])
    file._descriptor = -1


def test_no_room_is_its_own_error(tmp_path):
    """RLIMIT_FSIZE stands in for a full volume in a child process; the mapping of ENOSPC is the same table."""
    script = (
        "import pathlib, resource, signal, sys\n"
        "from target_appliance.store import posix\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))\n"
        "file = posix.PosixStore(pathlib.Path(sys.argv[1])).create('file')\n"
        "try:\n"
        "    file.append([bytes(90000), bytes(90000)])\n"
        "except posix.StoreError as error:\n"
        "    print(file.position, error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "100000 writing file failed (File too large)\n"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_full_device_is_its_own_error():
    with PosixWriteFile(os.open("/dev/full", os.O_WRONLY), "file") as file:
        with pytest.raises(StoreFullError, match=r"writing file failed \(No space left on device\)"):
            file.append([b"x"])
        assert file.position == 0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EIO, StoreError),
        (errno.EROFS, StoreError),
        (errno.ENOENT, NotFoundError),
        (errno.EEXIST, AlreadyExistsError),
        (errno.ENOTEMPTY, AlreadyExistsError),
    ],
)
def test_what_the_medium_says(code, kind):
    assert type(translate(OSError(code, os.strerror(code)), "a/b", "writing")) is kind
