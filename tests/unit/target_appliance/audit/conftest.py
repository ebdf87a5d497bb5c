from collections.abc import Callable
from pathlib import Path

import pytest

from target_appliance.audit.event import Event, What, Who
from target_appliance.audit.log import AuditLog
from tests.fakes.clock import ManualClock

AGENT = Who("agent", "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "acme")


def event(number: int = 0, what: What = What.SYNC_BEGUN) -> Event:
    return Event(what, AGENT, f"replica {number}", facts={"number": number})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
def make(place: Path) -> Callable[..., AuditLog]:
    """A writer of the log, as another process would open it."""
    return lambda **more: AuditLog(place, ManualClock(), **more)
