import shutil
from pathlib import Path

import pytest

from common.errors import EXIT_DAMAGED, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_TRY_LATER, EXIT_USAGE
from target_appliance.kms import registry
from target_appliance.kms.port import KekState
from tests.fakes.replica import REPLICA, World
from tests.unit.target_appliance.cli.conftest import Site

Replicated = tuple[Site, World]


@pytest.fixture
def copy(replicated: Replicated, tmp_path: Path) -> Site:
    """A copy that a test may break."""
    folder = tmp_path / "copy"
    shutil.copytree(replicated[0].folder, folder)
    return Site(folder)


def test_points_shows_what_the_store_holds_even_before_the_catalog_knows(copy: Site) -> None:
    listed = copy.done("points", REPLICA)
    assert [(point["point"], point["kind"]) for point in listed["points"]] == [(1, "full"), (2, "delta")]
    assert [disk["key"] for disk in listed["points"][0]["disks"]] == [2000, 2001]
    assert (listed["tenant"], listed["vm"]) == ("acme", "web01")
    told = copy.run("points", "web01", "--tenant", "acme")
    assert told.code == 0
    assert "2000 (2 grains)" in told.out


def test_replicas_lists_what_the_catalog_was_told(copy: Site) -> None:
    assert copy.done("catalog", "rebuild")["points"] == 2
    (row,) = copy.done("replicas")["replicas"]
    assert (row["replica"], row["vm"], row["point_count"], row["newest"]) == (REPLICA, "web01", 2, 2)
    assert row["stored_bytes"] > 0
    assert copy.done("replicas", "--tenant", "globex") == {"replicas": []}
    assert REPLICA in copy.run("replicas").out


def test_a_lost_catalog_is_rebuilt_with_tenants_and_agents(copy: Site) -> None:
    agents = copy.done("tenants", "list")
    (copy.folder / "state" / "catalog.sqlite").unlink()
    assert copy.done("tenants", "list")["tenants"] == []
    rebuilt = copy.done("catalog", "rebuild")
    assert rebuilt == {"tenants": 1, "agents": 1, "replicas": 1, "points": 2, "damaged": []}
    assert copy.done("tenants", "list") == agents


def test_a_damaged_record_is_named_and_hides_no_other_point(copy: Site) -> None:
    record = point_folder(copy, 1) / "point.json"
    flip(record)
    told = copy.done("catalog", "rebuild")
    assert [row["point"] for row in told["damaged"]] == [1]
    assert "damaged: replica" in copy.run("catalog", "rebuild").out
    listed = copy.done("points", REPLICA)
    assert [point["point"] for point in listed["points"]] == [2]
    assert [each["point"] for each in listed["damaged"]] == [1]
    assert "damaged: point 1" in copy.run("points", REPLICA).out


@pytest.mark.parametrize("command", [["points"], ["verify"], ["export", "--disk", 2000, "--out", "x"]])
def test_an_unknown_replica_is_not_found(replicated: Replicated, command: list[str]) -> None:
    site, _ = replicated
    error = site.refused(EXIT_NOT_FOUND, command[0], "nobody", *command[1:])
    assert "no replica 'nobody'" in error["message"]


def test_verify_passes_with_and_without_the_key(replicated: Replicated) -> None:
    site, _ = replicated
    with_key, without = site.done("verify", REPLICA), site.done("verify", "web01", "--without-key")
    assert with_key["findings"] == without["findings"] == []
    assert with_key["grains"] > 0
    assert without["grains"] == 0
    assert site.done("verify", REPLICA, "--point", 1)["points"] == [1]
    assert "is what was committed" in site.run("verify", REPLICA).out


@pytest.mark.parametrize("flag", [[], ["--without-key"]])
def test_verify_names_a_flipped_byte_and_ends_with_6(copy: Site, flag: list[str]) -> None:
    disk = point_folder(copy, 2) / "disk-2000.vmdk"
    offset = flip(disk)
    outcome = copy.run("verify", REPLICA, *flag, "--json")
    assert outcome.code == EXIT_DAMAGED
    named = [found for found in outcome.json["findings"] if found["file"] == "disk-2000.vmdk"]
    assert any(found["first_byte"] <= offset <= found["last_byte"] for found in named)
    assert {(found["point"], found["disk"]) for found in named} == {(2, 2000)}
    told = copy.run("verify", REPLICA, *flag)
    assert told.code == EXIT_DAMAGED
    assert "DAMAGED" in told.out


def test_verify_without_key_needs_neither_kms_nor_passphrase(copy: Site) -> None:
    (copy.folder / "kms.json").unlink()
    (copy.folder / "passphrase").unlink()
    assert copy.done("verify", REPLICA, "--without-key")["findings"] == []
    assert "passphrase" in copy.refused(EXIT_USAGE, "verify", REPLICA)["message"]


@pytest.mark.parametrize("form", ["raw", "flat", "sparse", "stream"])
def test_export_writes_a_disk_of_any_point(replicated: Replicated, tmp_path: Path, form: str) -> None:
    site, world = replicated
    out = tmp_path / "disk"
    told = site.done("export", REPLICA, "--point", 1, "--disk", 2000, "--format", form, "--out", out)
    assert told["capacity_bytes"] == 4 << 20
    assert all(Path(file).exists() for file in told["files"])
    if form == "raw":
        assert out.read_bytes() == world.image(1)
        newest = site.run("export", REPLICA, "--disk", 2000, "--out", tmp_path / "newest")
        assert newest.code == 0
        assert "in the clear" in newest.out
        assert (tmp_path / "newest").read_bytes() == world.image(2)


def test_export_refuses_what_is_not_there(replicated: Replicated, tmp_path: Path) -> None:
    site, _ = replicated
    out = tmp_path / "disk"
    site.refused(EXIT_USAGE, "export", REPLICA, "--disk", 2000, "--format", "qcow2", "--out", out)
    site.refused(EXIT_NOT_FOUND, "export", REPLICA, "--point", 9, "--disk", 2000, "--out", out)
    site.refused(EXIT_NOT_FOUND, "export", REPLICA, "--point", 2, "--disk", 2001, "--out", out)
    site.refused(EXIT_USAGE, "export", REPLICA, "--point", 0, "--disk", 2000, "--out", out)
    site.refused(EXIT_USAGE, "verify", REPLICA, "--point", -1)
    assert not out.exists()
    out.write_text("mine")
    site.refused(EXIT_REFUSED, "export", REPLICA, "--disk", 2000, "--out", out)
    assert out.read_text() == "mine"


def test_kms_status_tells_each_tenants_key(copy: Site) -> None:
    copy.done("tenants", "add", "globex", "--out", copy.folder / "globex")
    status = copy.done("kms", "status")
    assert status["ready"]
    acme, globex = status["keys"]
    assert (acme["tenant"], acme["state"]) == ("acme", "active")
    assert globex == {"tenant": "globex", "kms": None, "kek": None, "state": None}
    kms = registry.create(copy.config.kms, None)
    kms.set_state(acme["kek"], KekState.DEACTIVATED)
    assert copy.done("kms", "status")["keys"][0]["state"] == "deactivated"
    assert "deactivated" in copy.run("kms", "status").out
    closed = copy.refused(EXIT_REFUSED, "verify", REPLICA)
    assert closed["reason"] == "KEY_NOT_USABLE"


def test_kms_status_of_a_kms_that_is_gone(copy: Site) -> None:
    from tests.lab.pki import Authority

    issued = Authority("kms", copy.folder / "ca.crt").issue_client(copy.folder / "client", "appliance")
    config = copy.folder / "appliance.toml"
    kmip = '[kms]\ndriver = "kmip"\n[kms.kmip]\nendpoints = ["127.0.0.1:1"]\nca_file = "ca.crt"\n'
    kmip += f'certificate_file = "{issued.certificate_file.name}"\nkey_file = "{issued.key_file.name}"\n'
    config.write_text(config.read_text().split("[kms]")[0] + kmip)
    outcome = copy.run("kms", "status", "--json")
    assert outcome.code == EXIT_TRY_LATER
    assert not outcome.json["ready"]
    assert outcome.json["keys"][0]["state"] is None
    assert "does not answer" in copy.run("kms", "status").out


def point_folder(site: Site, point: int) -> Path:
    return site.folder / "store" / "tenants" / "acme" / "replicas" / REPLICA / "points" / f"{point:06d}"


def flip(path: Path) -> int:
    """Change one byte in the middle; returns where."""
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    offset = len(content) // 2
    content[offset] ^= 0x10
    path.write_bytes(content)
    return offset
