from common.errors import EXIT_DAMAGED, EXIT_OK
from tests.fakes.replica import REPLICA
from tests.unit.target_appliance.cli.conftest import Site
from tests.unit.target_appliance.cli.test_replicas import copy, flip, point_folder

__all__ = ["copy"]


def test_every_point_is_looked_at_and_told(copy: Site) -> None:
    copy.done("catalog", "rebuild")
    told = copy.done("scrub", "--once")

    assert told["looked"] == 2
    found = [(one["point"], one["state"], one["with_key"]) for one in told["points"]]
    assert found == [(1, "good", True), (2, "good", True)]
    assert copy.done("scrub")["looked"] == 0
    assert copy.done("replicas")["replicas"][0]["bad_points"] == 0
    assert copy.done("replicas")["replicas"][0]["checked_points"] == 2


def test_a_bad_point_ends_it_with_damage_and_shows_in_the_list(copy: Site) -> None:
    copy.done("catalog", "rebuild")
    flip(point_folder(copy, 1) / "disk-2000.vmdk")
    outcome = copy.run("scrub", REPLICA, "--once", "--json")

    assert outcome.code == EXIT_DAMAGED
    assert [one["state"] for one in outcome.json["points"]] == ["corrupt", "good"]
    assert "1 bad" in copy.run("replicas").out
    assert "disk-2000.vmdk" in copy.run("scrub").out
    event = next(one for one in copy.done("audit", "show")["events"] if one["what"] == "point-state")
    assert (event["facts"]["point"], event["facts"]["state"], event["facts"]["affects"]) == (1, "corrupt", "1, 2")

    flip(point_folder(copy, 1) / "disk-2000.vmdk")
    assert copy.run("scrub", REPLICA, "--once").code == EXIT_OK


def test_a_tenant_alone_names_no_replica(copy: Site) -> None:
    assert "name a replica" in copy.run("scrub", "--tenant", "acme").err
