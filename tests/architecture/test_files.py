"""Size and contents of files, whatever their language."""

import ast
import re

import pytest

from tests.architecture.tree import TOP, is_generated, modules, name, tracked

LINES = 500
SOURCES = {".py", ".go", ".c", ".h", ".sh", ".proto"}

# A lock file that names an index, or a script that does, works on one network only. Spelt so as not to match itself.
REGISTRIES = re.compile(
    r"\b(?:pypi[.]org|files[.]pythonhosted[.]org|proxy[.]golang[.]org|sum[.]golang[.]org|registry[.]npmjs[.]org"
    r"|(?:registry-1[.])?docker[.]io|ghcr[.]io|quay[.]io|artifactory|nexus[.]\w+)\b"
)
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:home|Users|work|root)/\w")


def text_files():
    for path in tracked():
        if path == TOP / "LICENSE" or path.suffix in {".vmdk", ".manifest", ".bin", ".png"}:
            continue
        yield path


def test_no_file_is_too_long():
    lengths = {
        name(path): path.read_text().count("\n")
        for path in tracked()
        if path.suffix in SOURCES and not is_generated(path)
    }

    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > LINES} == {}


@pytest.mark.parametrize("pattern", [REGISTRIES, MACHINE_PATHS], ids=["registry hosts", "paths of a machine"])
def test_nothing_ties_the_tree_to_one_machine(pattern):
    found = [
        f"{name(path)}:{number}: {match.group()}"
        for path in text_files()
        if name(path) != "tests/architecture/test_files.py"
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if (match := pattern.search(line))
    ]

    assert found == []


def test_patterns_would_find_what_they_are_for():
    assert REGISTRIES.search("--index-url https://pypi" + ".org/simple")
    assert MACHINE_PATHS.search("cd /home" + "/somebody/src")
    assert not MACHINE_PATHS.search("kms/home/x https://example.net/work")


def test_every_module_says_what_it_is_for():
    silent = [path for path, module in modules() if module.body and not ast.get_docstring(module)]

    assert silent == []
