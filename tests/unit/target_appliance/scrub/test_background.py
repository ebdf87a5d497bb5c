"""The budget, what is told, and the thread of a serving appliance."""

import threading
from datetime import datetime, timedelta

import pytest
from pydantic import ValidationError

from target_appliance.audit.log import AuditLog
from target_appliance.audit.recorder import Recorder
from target_appliance.config import ScrubSettings
from target_appliance.scrub import background
from target_appliance.scrub.budget import Budget
from target_appliance.scrub.choice import Due
from target_appliance.scrub.scrubber import Paused
from tests.fakes.clock import ManualClock
from tests.fakes.replica import REPLICA
from tests.unit.target_appliance.scrub.test_scrubber import flipped, names


def at(hour):
    return ManualClock(datetime(2026, 11, 24, hour, 0).astimezone())


def test_the_rate_is_kept():
    clock = ManualClock()
    budget = Budget(ScrubSettings(mib_per_second=4), clock, threading.Event())
    began = clock.monotonic()
    for _ in range(40):
        budget.spend(1 << 20)

    assert clock.monotonic() - began == pytest.approx(10, abs=0.5)


def test_a_rate_that_no_look_would_end_with_is_refused():
    ScrubSettings(mib_per_second=1)
    with pytest.raises(ValidationError):
        ScrubSettings(mib_per_second=0.9)


def test_it_ends_with_its_hours():
    clock = at(23)
    budget = Budget(ScrubSettings(hours=(22, 6)), clock, threading.Event())
    budget.spend(1)
    clock.advance(timedelta(hours=8).total_seconds())

    assert not budget.open()
    with pytest.raises(Paused):
        budget.spend(1)
    Budget(ScrubSettings(hours=(22, 6)), clock, threading.Event(), any_time=True).spend(1)


def test_it_ends_with_the_process():
    stopping = threading.Event()
    budget = Budget(ScrubSettings(), ManualClock(), stopping)
    stopping.set()

    with pytest.raises(Paused):
        budget.spend(1)


def test_a_round_looks_at_all_that_is_due_within_the_budget(scrubbed):
    scrubbed.world.clock.advance(10)
    budget = Budget(ScrubSettings(), scrubbed.world.clock, threading.Event())
    background.round_of(scrubbed.scrubber(budget.spend), budget, Due(every=86400, after=0))

    assert [row.state for row in scrubbed.catalog.scrubs()] == ["good"] * 4


def test_a_serving_appliance_tells_its_audit_log(scrubbed, tmp_path, monkeypatch):
    world = scrubbed.world
    monkeypatch.setattr(background, "_REST_SECONDS", 0.01)
    log = AuditLog(tmp_path / "audit", world.clock)
    told = threading.Event()
    monkeypatch.setattr(background, "announce", lambda _: told.set())
    bad = f"{names.point_folder(world.vault.tenants()[0], REPLICA, 2)}/disk-2000.vmdk"
    settings = ScrubSettings(after_hours=0, mib_per_second=10_000)
    with (
        flipped(world.store, bad, 700),
        background.scrubbing(world.vault, scrubbed.catalog, Recorder(log, world.clock), world.clock, settings),
    ):
        assert told.wait(30)

    lines = "".join(path.read_text() for path in (tmp_path / "audit").rglob("*.jsonl"))
    assert '"what":"point-state"' in lines
    assert '"affects":"2, 3, 4"' in lines


def test_it_can_be_switched_off(scrubbed):
    before = threading.active_count()
    with background.scrubbing(None, None, None, None, ScrubSettings(enabled=False)):
        assert threading.active_count() == before
