from pathlib import Path

import pytest

from common.config import ConfigPath, Section, load
from common.errors import ConfigError


class Inner(Section):
    size: int = 3


class Outer(Section):
    where: ConfigPath
    inner: Inner = Inner()


def _load(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_text(text)
    return load(path, Outer)


def test_relative_paths_belong_to_the_files_folder(tmp_path):
    found = _load(tmp_path, 'where = "a/b"\n[inner]\nsize = 4')
    assert found.where == tmp_path.resolve() / "a/b"
    assert found.inner.size == 4
    assert _load(tmp_path, 'where = "/abs"').where == Path("/abs")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('where = "a"\ncolour = 1', "unknown key colour"),
        ('where = "a"\n[inner]\nsise = 1', "unknown key inner.sise"),
        ("", "key where is missing"),
        ("where = 3", "key where: must be a path"),
        ('where = "a"\n[inner]\nsize = "hunter2"', "key inner.size"),
        ("where = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_the_key(tmp_path, text, named):
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml", Outer)
