"""The oracle shares nothing with what it checks."""

import ast
import sys
from pathlib import Path

ALLOWED = {"lz4", "blake3", "cryptography", "tests"}


def test_it_imports_nothing_of_ours():
    imported = set()
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {(path.name, alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add((path.name, node.module))

    foreign = {(file, module) for file, module in imported if module.split(".")[0] not in sys.stdlib_module_names}
    assert {module.split(".")[0] for _, module in foreign} <= ALLOWED
    assert {module for _, module in foreign if module.startswith("tests")} == {"tests.second_reader.reader"}
    assert any(module == "lz4.block" for _, module in imported)
