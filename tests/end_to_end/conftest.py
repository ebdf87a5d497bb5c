"""Labs and pairs for end-to-end tests; made anew for each test, so that none starts from what another left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.pair import Pair
from tests.lab.site import Lab

DISK_MIB = 16


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Both sites, started."""
    with Lab(tmp_path / "lab", disk_mib=DISK_MIB) as started:
        yield started


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    """An appliance under the lab's KMIP server, serving, and a tenant's agent."""
    with Pair(lab) as serving:
        yield serving


@pytest.fixture
def embedded_pair(lab: Lab) -> Iterator[Pair]:
    """The same under the embedded KMS."""
    with Pair(lab, kms="embedded") as serving:
        yield serving
