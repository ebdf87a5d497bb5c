"""What a VM is besides its disks, from the vCenter into the points: each holds what was so when it was taken."""

import pytest

from tests.end_to_end.pair import TENANT, Pair
from tests.lab.vim import connected

pytestmark = pytest.mark.lab

VM = "web01"
NOTES = "root password: hunter2-in-the-notes"


def test_each_point_holds_the_configuration_of_its_time(embedded_pair: Pair) -> None:
    pair = embedded_pair
    pair.sync(VM)
    with connected(pair.lab) as admin:
        admin.reconfigure(admin.vm(VM), numCPUs=6, annotation=NOTES)
        admin.add_vtpm(admin.vm(VM))
    second = pair.sync(VM)
    assert second["kind"] == "delta"

    first, then = (pair.done("configuration", VM, "--point", point)["configuration"] for point in (1, 2))
    assert (first["cpus"], first["vtpm"]) == (2, False)
    assert (then["cpus"], then["vtpm"]) == (6, True)
    assert {name for name in first if first[name] != then[name]} == {"cpus", "vtpm"}
    assert (then["guest_id"], then["firmware"], then["memory_mib"]) == ("debian12_64Guest", "efi", 2048)
    assert [nic["network"] for nic in then["nics"]] == ["VM Network"]
    assert [disk["key"] for disk in then["disks"]] == [2000, 2001]
    assert pair.target("verify", VM).code == 0
    for path in (pair.folder / "store" / "tenants" / TENANT).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert NOTES.encode() not in content, path
            assert b"debian12_64Guest" not in content, path
