"""Tests that a document names."""

import ast
import re

from tests.architecture.tree import tracked

REFERENCE = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def missing(text):
    """Those of ``test_x.py::test_y`` in ``text`` that are not there."""
    there = {(path.name, name) for path in tracked() if path.name.startswith("test_") for name in _tests(path)}
    return [f"{file}::{name}" for file, name in REFERENCE.findall(text) if (file, name) not in there]


def _tests(path):
    return [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
