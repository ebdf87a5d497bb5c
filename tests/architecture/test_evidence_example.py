"""The example report in docs/ is authentic, and its page is what today's code makes of it."""

import re

from target_appliance.evidence import page, report
from target_appliance.identity.signing import check
from tests.architecture.tree import TOP

DOCS = TOP / "docs"


def test_the_example_is_signed_by_the_authority_that_the_page_names():
    (fingerprint,) = re.findall(r"^ {4}([0-9a-f]{64})$", (DOCS / "evidence.md").read_text(), re.MULTILINE)

    signed = check((DOCS / "evidence-example.json").read_bytes(), report.KIND, [fingerprint])

    assert signed.body["absence"]["checked"]
    assert (signed.body["absence"]["found"], signed.body["audit"]["intact"]) == (0, True)
    assert all(point["verified"] for replica in signed.body["replicas"] for point in replica["points"])


def test_its_page_says_what_it_says():
    content = (DOCS / "evidence-example.json").read_bytes()

    assert (DOCS / "evidence-example.html").read_bytes() == page.render(content)
