import os
from pathlib import Path

import pytest

from common.errors import AlreadyExistsError
from common.private_file import PUBLIC, write_file


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def _open_umask():
    old = os.umask(0)
    yield
    os.umask(old)


def test_a_file_is_private_unless_it_is_said_to_be_public(tmp_path: Path) -> None:
    write_file(tmp_path / "key", b"secret")
    write_file(tmp_path / "crt", b"public", mode=PUBLIC)
    assert (mode(tmp_path / "key"), mode(tmp_path / "crt")) == (0o600, 0o644)
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert names(tmp_path) == ["crt", "key"]


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_file(path, b"old")
    with pytest.raises(AlreadyExistsError, match="key exists"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    write_file(path, b"new", replace=True)
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["key"]


def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"theirs")
    (tmp_path / "key").symlink_to("elsewhere")
    with pytest.raises(AlreadyExistsError):
        write_file(tmp_path / "key", b"new")
    write_file(tmp_path / "key", b"new", replace=True)
    assert (tmp_path / "elsewhere").read_bytes() == b"theirs"
    assert not (tmp_path / "key").is_symlink()


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_file(tmp_path / "folder", b"x", replace=True)
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "missing" / "key", b"x")
    assert names(tmp_path) == ["folder"]
