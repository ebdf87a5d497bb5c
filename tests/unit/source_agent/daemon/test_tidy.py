"""What was left on VMs that are not protected any more goes at the start of the daemon; the rest waits for its sync."""

from structlog.testing import capture_logs

from common.errors import SourceError
from source_agent.daemon.tidy import tidying
from tests.unit.source_agent.test_parking import noise, note, park


def test_who_is_not_protected_any_more_is_let_go(world):
    noise(world, 1)
    park(world)
    with tidying(world.agent) as tidy:
        tidy(frozenset({world.vm.instance_uuid}))
    assert len(world.snapshots()) == 1
    with tidying(world.agent) as tidy:
        tidy(frozenset())
    assert (world.snapshots(), note(world)) == ([], None)
    assert world.sync().point == 1


def test_what_cannot_be_looked_for_is_told(world, monkeypatch):
    def away():
        raise SourceError("the vCenter is away", subject="vcenter", next_step="wait")

    noise(world, 1)
    park(world)
    monkeypatch.setattr(world.agent.reader, "release_leftovers", away)
    with capture_logs() as logs, tidying(world.agent) as tidy:
        tidy(frozenset())
    assert [line["cause"] for line in logs if line["log_level"] == "warning"] == ["the vCenter is away"]
    assert len(world.snapshots()) == 1
