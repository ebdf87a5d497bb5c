"""``retention`` and ``points`` as a provider types them."""

import contextlib
import shutil
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.errors import EXIT_DAMAGED, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_USAGE, PreconditionError
from target_appliance.kms import registry
from target_appliance.recovery import names
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import REPLICA, World, grain_bytes, spec
from tests.unit.target_appliance.cli.conftest import Site

Replicated = tuple[Site, World]


@pytest.fixture
def copy(replicated: Replicated, tmp_path: Path) -> Site:
    """A copy that a test may change."""
    site = Site(shutil.copytree(replicated[0].folder, tmp_path / "copy"))
    site.done("catalog", "rebuild")
    return site


def test_rules_are_set_shown_and_taken_back(copy: Site) -> None:
    told = copy.done("retention", "set", "--tenant", "acme", "last=3", "keep-daily=7", "within=2d", "--lock-days", 30)
    assert (told["policy"], told["lock_days"]) == ("last=3 daily=7 within=2d", 30)
    told = copy.done("retention", "set", "--tenant", "acme", "--replica", "web01", "last=1")
    assert [(one["vm"], one["policy"]) for one in told["replicas"]] == [("web01", "last=1")]
    assert copy.done("retention", "show", "--tenant", "acme") == {**told, "replicas": told["replicas"]}
    assert copy.done("retention", "set", "--tenant", "acme", "--lock-days", 7)["policy"] == "last=3 daily=7 within=2d"
    shown = copy.run("retention", "show", "--tenant", "acme").out
    assert "tenant acme: last=3 daily=7 within=2d" in shown
    assert "7 days" in shown
    copy.done("retention", "clear", "--tenant", "acme", "--replica", REPLICA)
    told = copy.done("retention", "clear", "--tenant", "acme")
    assert (told["policy"], told["lock_days"], told["replicas"][0]["policy"]) == (None, 7, None)


def test_rules_that_a_flood_would_empty_are_remarked_upon(copy: Site) -> None:
    assert "within=" in copy.run("retention", "set", "--tenant", "acme", "last=3").out
    assert "note" not in copy.run("retention", "set", "--tenant", "acme", "last=3", "within=2d").out


def test_what_cannot_be_set(copy: Site) -> None:
    for words in (["ever=3"], [], ["last=1", "--lock-days", 36_501]):
        copy.refused(EXIT_USAGE, "retention", "set", "--tenant", "acme", *words)
    both = ("retention", "set", "--tenant", "acme", "--replica", "web01", "--lock-days", 3)
    assert "tenant" in copy.refused(EXIT_USAGE, *both)["message"]
    copy.refused(EXIT_NOT_FOUND, "retention", "set", "--tenant", "nobody", "last=1")


def test_a_plan_tells_why_and_how_much(copy: Site) -> None:
    copy.done("retention", "set", "--tenant", "acme", "last=1")
    told = copy.done("points", "plan-retention", "web01")
    (one,) = told["replicas"]
    assert [(point["point"], point["kept"], point["reasons"]) for point in one["points"]] == [
        (1, False, ["last: 1 is newer"]),
        (2, True, ["newest point", "last 1 of 1"]),
    ]
    assert (one["policy"], one["policy_of"], one["dropped"]) == ("last=1", "tenant", 1)
    assert one["dropped_bytes"] == one["points"][0]["stored_bytes"] > 0
    assert abs(told["clock_ahead_seconds"]) < 2
    shown = copy.run("points", "plan-retention").out
    assert "last: 1 is newer" in shown
    assert "1 kept, 1 dropped" in shown
    assert copy.done("points", "plan-retention", "--tenant", "acme")["replicas"] == [one]


def test_a_hold_is_placed_shown_and_released(copy: Site) -> None:
    copy.done("retention", "set", "--tenant", "acme", "last=1")
    here = ("web01", "--point", 1, "--name", "case-17")
    copy.done("points", "hold", *here, "--reason", "court order")
    (one,) = copy.done("points", "plan-retention", "web01")["replicas"]
    assert one["points"][0]["reasons"] == ["held: case-17, court order"]
    held = copy.done("retention", "show", "--tenant", "acme")["replicas"][0]["holds"]
    assert held == [{"point": 1, "name": "case-17", "reason": "court order"}]
    (copy.folder / "state" / "catalog.sqlite").unlink()
    copy.done("catalog", "rebuild")
    assert copy.done("points", "plan-retention", "web01")["replicas"][0]["dropped"] == 0
    assert copy.done("points", "release", *here)["holds_left"] == 0
    copy.refused(EXIT_NOT_FOUND, "points", "release", *here)
    copy.refused(EXIT_NOT_FOUND, "points", "hold", "web01", "--point", 77, "--name", "x", "--reason", "x")
    assert copy.done("points", "plan-retention", "web01")["replicas"][0]["dropped"] == 1


def test_what_no_rule_keeps_is_dropped_now(copy: Site) -> None:
    copy.done("retention", "set", "--tenant", "acme", "last=1")
    told = copy.done("points", "apply-retention", "web01")
    assert told["replicas"][0]["dropped"] == [{"point": 1, "reasons": ["last: 1 is newer"]}]
    assert [point["point"] for point in copy.done("points", "web01")["points"]] == [2]
    assert copy.done("replicas")["replicas"][0]["point_count"] == 1
    assert "0 points of 1 replicas" in copy.run("points", "apply-retention").out
    events = copy.done("audit", "show", "--tenant", "acme")["events"]
    dropped = [event for event in events if event["what"] == "point-dropped"]
    assert [event["outcome"] for event in dropped] == ["begun", "ok"]
    assert dropped[0]["facts"] == {"point": 1, "why": "last: 1 is newer"}
    assert dropped[0]["role"] == "admin"


def test_one_point_is_dropped_by_name(copy: Site) -> None:
    error = copy.refused(EXIT_REFUSED, "points", "drop", "web01", "--point", 2)
    assert "newest" in error["message"]
    copy.done("points", "hold", "web01", "--point", 1, "--name", "case-17", "--reason", "court order")
    error = copy.refused(EXIT_REFUSED, "points", "drop", "web01", "--point", 1)
    assert "is not dropped: held: case-17, court order" in error["message"]
    copy.done("points", "release", "web01", "--point", 1, "--name", "case-17")
    copy.done("points", "drop", "web01", "--point", 1)
    copy.refused(EXIT_NOT_FOUND, "points", "drop", "web01", "--point", 1)


def test_a_hundred_tries_to_drop_a_locked_point_fail_and_are_audited(copy: Site) -> None:
    copy.done("retention", "set", "--tenant", "acme", "last=1", "--lock-days", 3)
    image = copy.folder / "image.raw"
    image.write_bytes(bytes(1 << 20))
    other = "aaaaaaaa-1111-4111-8111-111111111111"
    copy.done("seed", "import", other, "--tenant", "acme", "--disk", f"2000={image}")
    config = copy.config
    with contextlib.closing(PosixStore(config.store_dir)) as store:
        world = World(store, registry.create(config.kms, SystemClock()), SystemClock())
        world.model = {1: {}, 2: {}}
        world.sync({spec(): {0: grain_bytes(7)}})
        world.sync({spec(): {0: grain_bytes(8)}})
    copy.done("catalog", "rebuild")
    copy.done("retention", "set", "--tenant", "acme", "last=1", "--lock-days", 0)
    for _ in range(100):
        outcome = copy.run("points", "drop", "web01", "--point", 3)
        assert outcome.code == EXIT_REFUSED
        assert "locked until" in outcome.err
    assert [one["point"] for one in copy.done("points", "apply-retention", "web01")["replicas"][0]["dropped"]] == [1, 2]
    assert [point["point"] for point in copy.done("points", "web01")["points"]] == [3, 4]
    events = copy.done("audit", "show", "--tenant", "acme")["events"]
    tries = [event["outcome"] for event in events if event["facts"].get("command") == "points drop"]
    assert tries == ["begun", PreconditionError.reason] * 100


def test_all_of_it_is_audited(copy: Site) -> None:
    copy.done("retention", "set", "--tenant", "acme", "last=1", "--lock-days", 3)
    copy.done("points", "hold", "web01", "--point", 1, "--name", "case-17", "--reason", "court order")
    facts = [event["facts"] for event in copy.done("audit", "show", "--tenant", "acme")["events"]]
    assert {"command": "retention set", "rules": "last=1", "lock_days": 3} in facts
    assert {"command": "points hold", "point": 1, "hold": "case-17", "why": "court order"} in facts


def test_damaged_settings_are_named(copy: Site) -> None:
    copy.done("retention", "set", "--tenant", "acme", "last=1")
    path = copy.config.store_dir / names.tenant_folder("acme") / "retention.json"  # type: ignore[arg-type]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"last":1', b'"last":9'))
    assert "retention.json" in copy.refused(EXIT_DAMAGED, "points", "plan-retention", "web01")["message"]


def test_a_tenant_with_a_locked_point_is_not_erased(copy: Site, replicated: Replicated) -> None:
    del replicated
    copy.done("retention", "set", "--tenant", "acme", "--lock-days", 3)
    image = copy.folder / "image.raw"
    image.write_bytes(bytes(1 << 20))
    other = "aaaaaaaa-1111-4111-8111-111111111111"
    copy.done("seed", "import", other, "--tenant", "acme", "--disk", f"2000={image}")
    copy.done("retention", "set", "--tenant", "acme", "--lock-days", 0)
    error = copy.refused(EXIT_REFUSED, "tenants", "erase", "acme", "--yes", "--receipt", copy.folder / "receipt")
    assert other in error["message"]
    assert copy.done("points", "web01")["point_count"] == 2


def test_points_alone_lists(copy: Site) -> None:
    assert copy.done("points", "web01") == copy.done("points", "list", "web01")
    assert "plan-retention" in copy.run("points", "--help").out
