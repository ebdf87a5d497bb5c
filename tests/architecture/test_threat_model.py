"""SECURITY.md names a test for each claim, and the tests are there."""

import re

from tests.architecture.named_tests import REFERENCE, missing
from tests.architecture.tree import TOP

PATH = re.compile(r"`(tests/[\w/]+\.py)`")


def test_every_claim_names_a_test_or_says_why_there_is_none():
    text = (TOP / "SECURITY.md").read_text()
    _, _, table = text.partition("### Which test shows it")
    rows = [line for line in table.partition("###")[0].splitlines() if line.startswith("| ")][2:]

    assert len(rows) > 15
    assert [row for row in rows if not REFERENCE.search(row) and "| none: " not in row] == []
    assert missing(text) == []
    assert [path for path in PATH.findall(text) if not (TOP / path).is_file()] == []
