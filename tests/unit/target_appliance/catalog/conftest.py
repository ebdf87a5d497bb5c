from collections.abc import Iterator
from pathlib import Path

import pytest

from target_appliance.catalog.catalog import Catalog
from tests.fakes.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'catalog.sqlite'}"


@pytest.fixture
def catalog(url: str, clock: ManualClock) -> Iterator[Catalog]:
    with Catalog.open(url, clock) as opened:
        yield opened
