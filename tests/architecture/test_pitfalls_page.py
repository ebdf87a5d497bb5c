"""docs/pitfalls.md names tests that are there."""

import re

from tests.architecture.named_tests import REFERENCE, missing
from tests.architecture.tree import TOP


def test_every_row_names_a_test_and_every_test_is_there():
    text = (TOP / "docs" / "pitfalls.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not re.match(r"\| (what|---)", line)]

    assert len(rows) > 40
    assert [row for row in rows if not REFERENCE.search(row)] == []
    assert missing(text) == []
