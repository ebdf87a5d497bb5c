"""The loop over syncs that the test holds in its hands; threads are real, what it waits for is observable."""

import dataclasses
import queue
import threading
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from common.clock import SystemClock
from common.config import load
from common.errors import AccessDeniedError, ParkedSyncError, PreconditionError, TargetUnavailableError
from source_agent.config import AgentConfig
from source_agent.daemon.events import Inventory, Site, Tags, Terminate
from source_agent.daemon.loop import Loop
from source_agent.daemon.settings import Settings
from source_agent.report import SyncReport
from source_agent.schedule.book import Known
from tests.end_to_end.waiting import until
from tests.unit.source_agent.schedule.day import place
from tests.unit.source_agent.schedule.test_sections import HEAD

WEB, DB = place("web01", "esx1", ("ds1",)), place("db01", "esx1", ("ds2",))
PROTECT = '[[protect]]\nrpo = "1h"\n[schedule]\nstop_grace = "1s"\nretry_first = "{retry}"\n'


def report(name, point=1, kind="full", warnings=()):
    return SyncReport(name, "r", point, kind, 10, 5, 7, 1.0, "crash", None, (), warnings)


class Syncs:
    """What the loop is given to sync with: each call waits for its outcome."""

    def __init__(self):
        self.begun = queue.Queue()

    def __call__(self, one, stop, progress):
        outcome = queue.Queue()
        progress.say(f"{one.vm.name}: taking a snapshot")
        self.begun.put((one, stop, outcome))
        with stop.calling(lambda: outcome.put(None)):
            found = outcome.get(timeout=30)
        stop.check()
        if isinstance(found, BaseException):
            raise found
        return found


class World:
    def __init__(self, tmp_path, retry="1h", known=None):
        path = tmp_path / "agent.toml"
        path.write_text(HEAD + PROTECT.format(retry=retry))
        self.path = path
        self.syncs = Syncs()
        self.saved = []
        self.asked = []
        self.parked = {}
        self.tidied = []
        self.settings = Settings(path, load(path, AgentConfig))
        self.loop = Loop(
            self.syncs,
            self.settings,
            SystemClock(),
            known=known or {},
            save=self.saved.append,
            beat=lambda: None,
            look=lambda: self.asked.append(True),
            parked=lambda: self.parked,
            tidy=self.tidied.append,
        )

    @contextmanager
    def going(self, *placements, told=None):
        thread = threading.Thread(target=self.loop.run, daemon=True)
        thread.start()
        self.loop.put(Inventory(placements, told or {}))
        try:
            yield
        finally:
            self.loop.put(Terminate("SIGTERM"))
            thread.join(30)
            assert not thread.is_alive()

    def next(self):
        return self.syncs.begun.get(timeout=30)

    def row(self, name="web01"):
        return next((row for row in self.loop.document()["vms"] if row["vm"] == name), None)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_sync_that_ends_well_is_told_and_counted(world):
    with capture_logs() as logs, world.going(WEB):
        one, _, outcome = world.next()
        assert one.vm.moref == WEB.moref
        row = world.row()
        assert row["running"]["step"] == "taking a snapshot"
        assert (row["rpo"], row["next_run"], row["point"]) == ("pending", None, None)
        outcome.put(report("web01", warnings=("mind the gap",)))
        until("the point is there", lambda: world.row()["point"])
        row = world.row()
        assert (row["rpo"], row["running"], row["error"]) == ("kept", None, None)
        assert row["next_run"] > row["point_time"]
    assert world.loop.counts.syncs == {("full", "committed"): 1}
    assert (world.loop.counts.read_bytes, world.loop.counts.sent_bytes) == (10, 5)
    assert "mind the gap" in [line.get("said") for line in logs]
    assert world.saved[-1]["vms"][0]["point"] == 1


def test_a_sync_that_fails_is_told_and_waits(world):
    with world.going(WEB):
        _, _, outcome = world.next()
        outcome.put(PreconditionError("the VM has an RDM", subject="vm web01", next_step="remove it"))
        until("the failure shows", lambda: world.row()["failures"])
        assert world.row()["error"] == "the VM has an RDM: remove it"
        assert world.row()["running"] is None
    assert world.loop.counts.syncs == {("unknown", "precondition"): 1}


def test_a_sync_that_breaks_is_a_failure_and_no_end(world):
    with world.going(WEB):
        _, _, outcome = world.next()
        outcome.put(ZeroDivisionError("secret"))
        until("the failure shows", lambda: world.row()["failures"])
        assert "ZeroDivisionError" in world.row()["error"]
        assert "secret" not in world.row()["error"]


def test_stopping_lets_syncs_finish(world):
    with world.going(WEB, DB):
        (_, _, first), (_, _, second) = world.next(), world.next()
        world.loop.put(Terminate("SIGTERM"))
        until("it is stopping", lambda: world.loop.document()["agent"]["stopping"])
        first.put(report("a"))
        second.put(report("b"))
        until("both are done", lambda: sum(world.loop.counts.syncs.values()) == 2)
    assert sum(world.loop.counts.syncs.values()) == 2
    assert {key[1] for key in world.loop.counts.syncs} == {"committed"}


def test_stopping_ends_syncs_that_take_too_long(world):
    with world.going(WEB):
        world.next()
    assert world.loop.counts.syncs == {("unknown", "interrupted"): 1}
    assert world.saved[-1]["vms"][0]["error"].startswith("SIGTERM ended the agent")


def test_who_asks_twice_does_not_want_to_wait(world):
    world.path.write_text(world.path.read_text().replace('stop_grace = "1s"', 'stop_grace = "7d"'))
    assert world.settings.reload()
    with world.going(WEB):
        world.next()
        world.loop.put(Terminate("SIGTERM"))
    assert world.loop.counts.syncs == {("unknown", "interrupted"): 1}


MANNERS = {
    "the end of the grace": ("1s", "4", [], True),
    "a second signal": ("7d", "4", [True], True),
    "SIGINT": ("1s", "4", [False], False),
    "SIGINT after SIGTERM": ("7d", "4", [True, False], False),
    "a signal while syncs are parked": ("7d", "4", [True, True, True], False),
    "parking is off": ("1s", "0", [], False),
}


@pytest.mark.parametrize("what", MANNERS)
def test_syncs_that_take_too_long_are_parked_or_ended(tmp_path, what):
    grace, hours, signals, parks = MANNERS[what]
    world = World(tmp_path)
    text = world.path.read_text().replace('stop_grace = "1s"', f'stop_grace = "{grace}"')
    world.path.write_text(text.replace("park_hours = 4", f"park_hours = {hours}"))
    assert world.settings.reload()
    with world.going(WEB):  # and SIGTERM at the end
        _, stop, _ = world.next()
        for one in signals:
            world.loop.put(Terminate("SIGTERM" if one else "SIGINT", parks=one))
    assert stop.parks is parks


def test_a_parked_sync_did_not_fail(world):
    world.path.write_text(world.path.read_text().replace('stop_grace = "1s"', 'stop_grace = "7d"'))
    assert world.settings.reload()
    with capture_logs() as logs, world.going(WEB):
        _, _, outcome = world.next()
        world.loop.put(Terminate("SIGTERM"))
        until("it is stopping", lambda: world.loop.document()["agent"]["stopping"])
        outcome.put(ParkedSyncError("SIGTERM ended the agent, it is parked", subject="vm web01", next_step="wait"))
        until("it ended", lambda: not world.row()["running"])
    row = world.saved[-1]["vms"][0]
    assert (row["running"], row["failures"], row["error"]) == (None, 0, None)
    assert [line["log_level"] for line in logs if line["event"] == "sync parked"] == ["info"]
    assert world.loop.counts.syncs == {("unknown", "parked"): 1}


def test_nothing_starts_while_stopping(tmp_path):
    world = World(tmp_path)
    with world.going(WEB):
        _, _, outcome = world.next()
        world.loop.put(Terminate("SIGTERM"))
        world.loop.put(Inventory([WEB, DB], {}))
        until("the other VM is known", lambda: world.row("db01"))
        outcome.put(report("web01"))
    assert world.syncs.begun.empty()


def test_when_the_target_is_back_nobody_waits_for_his_turn(world):
    trouble = TargetUnavailableError("it does not answer", subject="target", next_step="wait")
    with world.going(WEB):
        _, _, outcome = world.next()
        outcome.put(trouble)
        until("the failure shows", lambda: world.row()["failures"])
        before = world.row()["next_run"]
        world.loop.put(Site("target", trouble))
        until("it shows", lambda: world.loop.document()["agent"]["target"] == "it does not answer")
        assert world.loop.sites.trouble("target") is trouble
        world.loop._book.limits = world.settings.limits.__class__()  # a first retry after a minute, not an hour
        world.loop.put(Site("target", None))
        until("it is back", lambda: world.loop.document()["agent"]["target"] == "reachable")
        assert world.row()["next_run"] < before


def test_what_the_target_or_an_earlier_agent_knows_spares_a_sync(tmp_path):
    now = SystemClock().monotonic()
    earlier = {WEB.instance_uuid: Known(point=4, taken=now - 60)}
    world = World(tmp_path, known=earlier)
    assert world.loop.wanted([WEB, DB]) == [DB.instance_uuid]
    with world.going(WEB, DB, told={DB.instance_uuid: Known(point=9, taken=now - 60)}):
        until("both are known", lambda: world.row("db01"))
        assert (world.row()["point"], world.row("db01")["point"]) == (4, 9)
        assert world.loop.wanted([WEB, DB]) == []
    assert world.syncs.begun.empty()


def test_what_an_earlier_agent_left_open_is_known_and_shown(tmp_path):
    """A VM whose first sync was parked has no point yet: the target is asked all the same."""
    world = World(tmp_path, known={WEB.instance_uuid: Known(unfinished=True)})
    world.parked = {WEB.instance_uuid: {"point": 3}}
    assert world.loop.wanted([WEB, DB]) == [WEB.instance_uuid, DB.instance_uuid]
    now = SystemClock().monotonic()
    with world.going(WEB, DB, told={one.instance_uuid: Known(2, now - 60) for one in (WEB, DB)}):
        one, _, outcome = world.next()
        assert one.vm.name == "web01"
        assert world.row()["parked"] is None
        outcome.put(dataclasses.replace(report("web01", 3), snapshot_age=600.0))
        until("the point is there", lambda: world.row()["point"] == 3)
        assert 600 <= world.row()["age_seconds"] < 1200
        assert world.row()["parked"] == {"point": 3}
        world.loop.put(Inventory([WEB, DB], {}))
    assert world.syncs.begun.empty()
    assert world.tidied == [{WEB.instance_uuid, DB.instance_uuid}]


def test_a_changed_file_is_noticed_by_itself(world):
    with world.going(WEB):
        _, _, outcome = world.next()
        outcome.put(report("web01"))
        world.path.write_text(world.path.read_text().replace('"1h"\n[', '"2h"\n[') + "syncs = 9\n")
        until("the inventory is asked for", lambda: world.asked)
        world.loop.put(Inventory([WEB], {}))
        until("the policy holds", lambda: world.row()["rpo_seconds"] == 7200)
    assert world.settings.limits.syncs == 9


def test_a_mistake_in_the_file_changes_nothing(world, tmp_path):
    world.path.write_text(world.path.read_text().replace('"1h"\n[', '"soon"\n['))
    assert world.settings.changed()
    assert not world.settings.reload()
    assert not world.settings.changed()
    assert "protect.0.rpo" in world.settings.error
    assert world.settings.policies[0].rpo == 3600
    assert "protect.0.rpo" in world.loop.document()["agent"]["config_error"]


def test_sections_that_need_a_restart_are_named(world):
    world.path.write_text(world.path.read_text().replace('quiesce = "none"', 'quiesce = "filesystem"'))
    with capture_logs() as logs:
        assert world.settings.reload()
    assert [line["sections"] for line in logs if "sections" in line] == [["snapshot"]]


def test_a_site_that_does_not_answer_holds_everything_until_it_does(world):
    """One login that is refused, not one for each of hundreds of VMs."""
    denied = AccessDeniedError("the password is wrong", subject="vcenter", next_step="correct it")
    others = [place(f"vm{number}", f"esx{number}", (f"ds{number}",)) for number in range(20)]
    with world.going(*others):
        outcomes = [world.next()[2] for _ in range(4)]
        outcomes[0].put(denied)
        until("a look is asked for", lambda: world.asked)
        for outcome in outcomes[1:]:
            outcome.put(denied)
        until("all failed", lambda: sum(world.loop.counts.syncs.values()) == 4)
        world.loop.put(Site("vcenter", denied))
        until("it shows", lambda: world.loop.document()["agent"]["vcenter"] == "the password is wrong")
        waiting = [row for row in world.loop.document()["vms"] if row["waiting_for"]]
        assert {row["waiting_for"] for row in waiting} == {"the vcenter to answer"}
        assert len(waiting) == 16
        assert world.syncs.begun.empty()
        world.loop.put(Site("vcenter", None))
        assert world.next()


def test_a_privilege_that_one_vm_lacks_holds_nobody_for_long(world):
    denied = AccessDeniedError("no privilege on web01", subject="vm web01", next_step="grant it")
    with world.going(WEB):
        world.next()[2].put(denied)
        until("a look is asked for", lambda: world.asked)
        world.loop.put(Site("vcenter", None))
        world.loop.put(Inventory([WEB, DB], {}))
        assert world.next()[0].vm.name == "db01"


def test_a_vm_that_is_seen_no_more_is_a_warning_and_one_that_is_not_selected_is_none(world):
    with capture_logs() as logs, world.going(WEB, DB):
        world.next()
        world.next()
        world.loop.put(Inventory([dataclasses.replace(WEB, template=True)], {}))
        until("both are gone", lambda: not world.loop.document()["vms"])
    told = {line["vm"]: (line["log_level"], line["event"]) for line in logs if "no longer" in line["event"]}
    assert told == {
        "web01": ("info", "VM no longer protected"),
        "db01": ("warning", "VM no longer in the vCenter, so no longer protected"),
    }


def test_what_is_wrong_with_tags_is_told_and_touches_no_vm(world):
    with capture_logs() as logs, world.going(WEB):
        world.next()
        world.loop.put(Tags(("there is no such tag",)))
        until("it is told", lambda: world.loop.document()["agent"]["tags"] == ["there is no such tag"])
        assert [row["vm"] for row in world.loop.document()["vms"]] == ["web01"]
        world.loop.put(Tags(()))
        until("it is over", lambda: world.loop.document()["agent"]["tags"] == [])
    told = [(line["log_level"], line.get("said")) for line in logs if "tags are" in line["event"]]
    assert told == [("warning", "there is no such tag"), ("info", None)]


def test_an_inventory_that_lacks_a_tag_of_the_policies_is_not_taken_over(world):
    tagged = dataclasses.replace(WEB, tags=frozenset({"Tier:one"}))
    with world.going(WEB):
        world.next()
        world.path.write_text(world.path.read_text().replace("[[protect]]", '[[protect]]\ntag = "Tier:one"'))
        world.loop.put(Tags(("the file was changed",)))
        until("it is read", lambda: world.settings.tags() == {"Tier:one"})
        world.loop.put(Inventory([WEB], {}))
        world.loop.put(Tags(("so far",)))
        until("the loop came by", lambda: world.loop.document()["agent"]["tags"] == ["so far"])
        assert [row["vm"] for row in world.loop.document()["vms"]] == ["web01"]
        world.loop.put(Inventory([tagged, DB], {}, frozenset({"Tier:one"})))
        world.loop.put(Tags(()))
        until("the loop came by", lambda: not world.loop.document()["agent"]["tags"])
        assert [row["vm"] for row in world.loop.document()["vms"]] == ["web01"]
        world.loop.put(Inventory([WEB, DB], {}, frozenset({"Tier:one"})))
        until("nothing bears it", lambda: not world.loop.document()["vms"])
