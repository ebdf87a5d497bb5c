"""Labs and pairs for end-to-end tests; made anew for each test, so that none starts from what another left."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.pair import Pair
from tests.lab.site import Lab

DISK_MIB = 16
LARGE_MIB = 256
MIB = 1 << 20


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


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Pair]:
    """A pair whose plain01 has a disk of LARGE_MIB that does not compress, and which parks syncs."""
    with Lab(tmp_path / "lab", disk_mib=LARGE_MIB) as lab:
        lab.appliance_toml.write_text(lab.appliance_toml.read_text().replace("park_hours = 0", "park_hours = 24"))
        with Pair(lab, kms="embedded") as serving:
            guest = lab.guest("plain01", 2000)
            rng = random.Random(256)
            for place in range(0, LARGE_MIB, 8):
                guest.write(place * MIB, rng.randbytes(8 * MIB))
            yield serving
