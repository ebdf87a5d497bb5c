from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from common.clock import days_left
from source_agent.daemon.counts import Counts, Metrics
from source_agent.daemon.status import HEADINGS, Moment, cells, known, left_behind, parked, rows
from source_agent.in_flight import InFlight
from source_agent.schedule.book import Book
from source_agent.schedule.decide import Limits
from source_agent.schedule.policy import Policy
from tests.fakes.clock import START
from tests.unit.source_agent.schedule.day import HOUR, place

WEB, DB = place("web01", "esx1", ("ds1",)), place("db01", "esx1", ("ds1",))
AGENT = {
    "syncs_running": 1,
    "syncs_waiting": 1,
    "target": "reachable",
    "vcenter": "it is away",
    "config_error": None,
}


def moment(now):
    return Moment(now, START + timedelta(seconds=now))


@pytest.fixture
def book():
    made = Book(Limits(per_host=1), started=0.0)
    made.refresh(0.0, [WEB, DB], (Policy(rpo=HOUR),), {})
    return made


def shown(book, now, progress=None):
    return {row["vm"]: row for row in rows(book, moment(now), progress or {}, {})}


def commit(book, now, point=1):
    replica = next(iter(book.running))
    book.finished(now, replica, point, read_all=True)
    return book.vms[replica].name


def test_every_vm_has_a_row_that_says_how_it_is(book):
    book.step(0.0)
    (running,) = book.running
    first = book.running[running].vm.name
    found = shown(book, 30.0, {running: {"step": "x", "bytes_read": 1, "bytes_total": 4}})
    other = next(name for name in found if name != first)
    assert found[first]["running"] == {
        "since": "2026-11-24T12:00:00+00:00",
        "seconds": 30.0,
        "step": "x",
        "bytes_read": 1,
        "bytes_total": 4,
    }
    assert found[first]["next_run"] is None
    assert found[other]["waiting_for"] == "one of 1 places on datastore ds1 and one of 1 places on host esx1" or (
        found[other]["waiting_for"] == "one of 1 places on host esx1"
    )
    assert {row["rpo"] for row in found.values()} == {"pending"}
    assert cells(found[first], moment(30.0))[-1] == "syncing for 30s, 25 % read"
    assert cells(found[other], moment(30.0))[-2] == "now"
    assert len(cells(found[other], moment(30.0))) == len(HEADINGS)


def test_a_miss_is_there_with_its_reason_until_it_is_over(book):
    book.step(0.0)
    name = commit(book, 10.0)
    book.step(10.0)
    book.step(HOUR + 1)
    row = shown(book, HOUR + 60)[name]
    assert (row["rpo"], row["missed_since"]) == ("missed", "2026-11-24T13:00:01+00:00")
    assert row["cause"] == "capacity"
    assert row["why"] in cells(row, moment(HOUR + 60))[-1]
    assert row["age_seconds"] == HOUR + 60


def test_a_restarted_agent_goes_on_from_it(book):
    book.step(0.0)
    name = commit(book, 10.0, point=6)
    document = {"vms": rows(book, moment(20.0), {}, {})}
    (found,) = known(document, Moment(5000.0, START + timedelta(seconds=1000.0))).values()
    assert (found.point, found.taken, found.compared) == (6, 4000.0, 4000.0)
    assert name


@pytest.mark.parametrize("row", [{}, {"point": "6", "point_time": "x"}, {"point": 3, "point_time": None}])
def test_rows_that_make_no_sense_are_left_out(row):
    assert known({"vms": [row]}, moment(0.0)) == {}
    assert known({}, moment(0.0)) == {}


def test_a_point_from_the_future_is_not_believed(book):
    book.step(0.0)
    commit(book, 10.0)
    document = {"vms": rows(book, moment(20.0), {}, {})}
    assert known(document, Moment(0.0, START - timedelta(days=1))) == {}


def test_what_is_left_grows_old(book):
    book.step(0.0)
    name = commit(book, 10.0)
    document = {"agent": AGENT, "vms": rows(book, moment(20.0), {}, {})}
    soon = {row["vm"]: row for row in left_behind(document, moment(60.0), {})["vms"]}
    assert (soon[name]["rpo"], soon[name]["age_seconds"], soon[name]["next_run"]) == ("kept", 60.0, None)
    late = {row["vm"]: row for row in left_behind(document, moment(2 * HOUR), {})["vms"]}
    assert (late[name]["rpo"], late[name]["why"]) == ("missed", "no agent is running")


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        (1, "parked for 1h on the way to point 3; the next sync goes on with it"),
        (5, "parked for 5h on the way to point 3, longer than park_hours; the next start removes its snapshot"),
    ],
)
def test_a_parked_sync_says_what_goes_on_next(book, hours, told):
    book.step(0.0)
    name = commit(book, 10.0)
    replica = next(vm.replica for vm in book.vms.values() if vm.name == name)
    record = InFlight("s", 3, None, None, parked=START)
    now = hours * HOUR
    waiting = parked(
        {replica: record, DB.instance_uuid + "x": replace(record, parked=None)}, moment(now).wall, 4 * HOUR
    )
    assert list(waiting) == [replica]
    here = {row["vm"]: row for row in rows(book, moment(now), {}, waiting)}
    gone = {
        row["vm"]: row for row in left_behind({"vms": rows(book, moment(20.0), {}, {})}, moment(now), waiting)["vms"]
    }
    for row in (here[name], gone[name]):
        assert row["parked"]["since"] == "2026-11-24T12:00:00+00:00"
        assert cells(row, moment(now))[-1].startswith(told)
    assert sum(row["parked"] is not None for row in (*here.values(), *gone.values())) == 2


def test_what_was_left_open_is_known_to_the_next_agent(book):
    book.step(0.0)
    commit(book, 10.0, point=6)
    document = {"vms": rows(book, moment(20.0), {}, {})}
    found = known(document, moment(30.0), [WEB.instance_uuid, DB.instance_uuid])
    assert {(one.point, one.unfinished) for one in found.values()} == {(6, True), (None, True)}


def test_metrics(book):
    book.step(0.0)
    name = commit(book, 10.0)
    counts = Counts()
    counts.failed("TARGET_UNAVAILABLE")
    registry = CollectorRegistry()
    document = {"agent": AGENT, "vms": rows(book, moment(20.0), {}, {})}
    registry.register(Metrics(lambda: document, counts, lambda: 12.5, lambda: True))
    text = generate_latest(registry).decode()
    vm = next(one for one in book.vms.values() if one.name == name)
    labels = f'{{replica="{vm.replica}",vm="{name}"}}'
    for line in (
        f"keysapart_agent_point_age_seconds{labels} 20.0",
        f"keysapart_agent_rpo_seconds{labels} 3600.0",
        f"keysapart_agent_rpo_missed{labels} 0.0",
        f"keysapart_agent_rpo_misses_total{labels} 0.0",
        'keysapart_agent_syncs_total{kind="unknown",result="target_unavailable"} 1.0',
        "keysapart_agent_vms_protected 2.0",
        "keysapart_agent_syncs_running 1.0",
        "keysapart_agent_syncs_waiting 1.0",
        "keysapart_agent_target_reachable 1.0",
        "keysapart_agent_vcenter_reachable 0.0",
        "keysapart_agent_config_valid 1.0",
        "keysapart_agent_certificate_days_left 12.5",
        "keysapart_agent_certificate_not_renewed 1.0",
    ):
        assert line in text.splitlines()
    # A VM without a point has no age, not an age of nothing.
    assert text.count("keysapart_agent_point_age_seconds{") == 1


def test_days_left():
    assert days_left(START + timedelta(hours=36), START) == 1.5
