"""docs/pitfalls.md names tests that are there."""

import ast
import re

from tests.architecture.tree import TOP, tracked

REFERENCE = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def test_every_row_names_a_test_and_every_test_is_there():
    text = (TOP / "docs" / "pitfalls.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not re.match(r"\| (what|---)", line)]

    assert len(rows) > 40
    assert [row for row in rows if not REFERENCE.search(row)] == []
    there = {(path.name, name) for path in tracked() if path.name.startswith("test_") for name in _tests(path)}
    assert [f"{file}::{name}" for file, name in REFERENCE.findall(text) if (file, name) not in there] == []


def _tests(path):
    return [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
