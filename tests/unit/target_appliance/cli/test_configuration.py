from common.errors import EXIT_DAMAGED, EXIT_NOT_FOUND
from tests.fakes.replica import REPLICA, World, vm_configuration
from tests.unit.target_appliance.cli.conftest import Site
from tests.unit.target_appliance.cli.test_replicas import copy, flip, point_folder

__all__ = ["copy"]

Replicated = tuple[Site, World]


def test_it_shows_the_configuration_of_the_point_that_is_asked_for(copy: Site) -> None:
    told = copy.done("configuration", REPLICA, "--point", 2)

    assert (told["replica"], told["vm"], told["point"]) == (REPLICA, "web01", 2)
    assert told["configuration"] == vm_configuration(vtpm=True).as_members()


def test_it_says_the_same_in_words(copy: Site) -> None:
    shown = copy.run("configuration", REPLICA, "--point", 2).out

    assert "2 processors (1 a socket), 2048 MiB, efi, secure boot, with a TPM" in shown
    assert "network card 4000: VirtualVmxnet3, standard network VM Network, 00:50:56:0a:0b:0c, connected" in shown
    assert "boots from disk 2000" in shown


def test_it_is_told_to_the_audit_log(copy: Site) -> None:
    copy.done("configuration", REPLICA, "--point", 2)
    event = copy.done("audit", "show")["events"][-1]

    assert event["facts"] == {"command": "configuration", "point": 2}
    assert (event["tenant"], event["object"], event["outcome"]) == ("acme", f"replica {REPLICA}", "ok")


def test_a_point_without_one_says_so(copy: Site) -> None:
    refused = copy.run("configuration", REPLICA, "--point", 1, "--json")

    assert refused.code == EXIT_NOT_FOUND
    assert "does not hold the VM's configuration" in refused.json["error"]["message"]


def test_a_damaged_one_is_named(copy: Site) -> None:
    flip(point_folder(copy, 2) / "vm.sealed")

    assert copy.run("configuration", REPLICA, "--point", 2).code == EXIT_DAMAGED
    assert "vm.sealed" in copy.run("verify", REPLICA, "--without-key").out
