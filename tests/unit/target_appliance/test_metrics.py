"""What a scrape of the appliance tells, over HTTP and from a real catalog and store."""

import urllib.request
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from common.errors import BusyError
from common.metrics_port import metrics_port
from target_appliance.audit.log import APPLIANCE
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import ScrubRow
from target_appliance.metrics import PREFIX, Metrics
from target_appliance.retention.prune import Pruner
from target_appliance.retention.steward import Steward
from target_appliance.store.posix import PosixStore
from tests.fakes.clock import START, ManualClock
from tests.fakes.replica import REPLICA, TENANT, World, grain_bytes, spec


@dataclass
class Shown:
    not_after: datetime = START + timedelta(days=40)
    authority_not_after: datetime = START + timedelta(days=3000)
    failing: bool = False


def served(metrics: Metrics, port: int = 0) -> AbstractContextManager[int]:
    return metrics_port(f"127.0.0.1:{port}", metrics, PREFIX, setting="listen.metrics")


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    told = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name.removeprefix(f"{PREFIX}_"): float(value) for name, _, value in told}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path):
    with closing(PosixStore(tmp_path)) as opened:
        yield opened


@pytest.fixture
def catalog(tmp_path: Path, clock: ManualClock):
    with Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite", clock) as opened:
        yield opened


def test_all_of_it(store: PosixStore, catalog: Catalog, clock: ManualClock) -> None:
    world = World(store, clock=clock)
    world.sync({spec(): {0: grain_bytes(1)}})
    record = world.vault.point(TENANT, REPLICA, 1)
    catalog.add_tenant(TENANT)
    catalog.record_point(record, 4711)
    catalog.put_scrub(ScrubRow(TENANT, REPLICA, record.number, "corrupt", 1))
    shown = Shown()
    steward = Steward(world.vault, Pruner(world.vault, catalog, [].append, APPLIANCE), clock)
    steward.tick()
    clock.jump(-7200)
    metrics = Metrics(catalog, store, shown, clock, steward, world.vault.time)
    with served(metrics) as port:
        found = scrape(port)
        labels = f'{{replica="{REPLICA}",tenant="{TENANT}",vm="{record.vm_name}"}}'
        assert found[f"points{labels}"] == 1
        assert found[f"stored_bytes{labels}"] == 4711
        assert found[f'scrubbed_points{{replica="{REPLICA}",state="corrupt",tenant="{TENANT}"}}'] == 1
        assert found[f"point_age_seconds{labels}"] == clock.now().timestamp() - record.snapshot_time
        labels = f'{{replica="{REPLICA}",tenant="{TENANT}"}}'
        told = [found[f"{name}{labels}"] for name in ("points_last_day", "empty_points_last_day", "droppable_points")]
        assert told == [1, 0, 0]
        assert found["retention_clock_ahead_seconds"] == -7200
        clock.jump(7200)
        found = scrape(port)
        assert found['certificate_days_left{certificate="server"}'] == 40
        assert found['certificate_days_left{certificate="authority"}'] == 3000
        assert (found["certificate_not_reloaded"], found["syncs_open"]) == (0, 0)
        assert found["store_free_bytes"] > 1 << 20
        assert found["process_resident_memory_bytes"] > 1 << 20
        shown.failing = True
        assert scrape(port)["certificate_not_reloaded"] == 1
        with pytest.raises(BusyError, match=r"listen\.metrics"), served(metrics, port):
            pass


def test_what_cannot_be_told_is_left_out(store: PosixStore, catalog: Catalog, clock: ManualClock) -> None:
    vault = World(store, clock=clock).vault
    metrics = Metrics(
        catalog,
        store,
        Shown(),
        clock,
        Steward(vault, Pruner(vault, catalog, [].append, APPLIANCE), clock),
        vault.time,
    )
    whole = {family.name for family in metrics.collect()}
    store.close()
    assert whole - {family.name for family in metrics.collect()} == {f"{PREFIX}_store_free_bytes"}
