"""``keys`` by its commands: what they print, write and ask."""

import json
import shutil
from pathlib import Path

import pytest

from common.errors import EXIT_NOT_FOUND, EXIT_REFUSED
from target_appliance.kms import registry
from tests.fakes.replica import REPLICA, TENANT, World
from tests.second_reader.reader import Replica as SecondReader
from tests.second_reader.reader import revealed
from tests.unit.target_appliance.cli.conftest import Site, run


@pytest.fixture
def copy(replicated: tuple[Site, World], tmp_path: Path) -> Site:
    """A copy that a test may change."""
    folder = tmp_path / "copy"
    shutil.copytree(replicated[0].folder, folder)
    Site(folder).done("catalog", "rebuild")
    return Site(folder)


def test_status_tells_what_there_is(copy: Site) -> None:
    (status,) = copy.done("keys", "status")["tenants"]
    assert (status["tenant"], status["state"], status["epochs"], status["unfinished"]) == ("acme", "active", 2, False)
    assert status["wrapped_under"] == {status["kek"]: 2}
    assert copy.done("keys", "status", "acme")["tenants"] == [status]
    assert status["kek"] in copy.run("keys", "status").out
    copy.refused(EXIT_NOT_FOUND, "keys", "status", "globex")


def test_a_kek_is_rotated_and_the_old_one_destroyed(copy: Site) -> None:
    (before,) = copy.done("keys", "status")["tenants"]
    first = copy.run("keys", "rotate-kek", "acme")
    assert first.code == 0
    assert "1 of 1 replicas" in first.err
    assert f"{before['kek']} is needed by nothing" in first.out
    done = copy.done("keys", "rotate-kek", "acme", "--destroy-old")
    assert before["kek"] in done["destroyed"]
    assert len(done["destroyed"]) == 2
    assert registry.create(copy.config.kms, None).state(before["kek"]).value == "destroyed"
    assert copy.done("verify", REPLICA)["findings"] == []
    events = copy.run("audit", "show", "--json").out
    assert "kek-destroyed" in events
    assert "keys rotate-kek" in events
    copy.refused(EXIT_NOT_FOUND, "keys", "rotate-kek", "globex")


def test_old_keks_are_destroyed_without_a_rotation(copy: Site) -> None:
    (before,) = copy.done("keys", "status")["tenants"]
    assert copy.done("keys", "destroy-old", "acme")["destroyed"] == []
    assert copy.run("keys", "destroy-old", "acme").out == "tenant acme has no older key\n"
    kept = [before["kek"], copy.done("keys", "rotate-kek", "acme")["kek"]]
    rotated = copy.run("keys", "rotate-kek", "acme")
    assert f"{kept[0]} is needed by nothing: keys destroy-old acme destroys it" in rotated.out
    (now,) = copy.done("keys", "status")["tenants"]
    assert sorted(copy.done("keys", "destroy-old", "acme")["destroyed"]) == sorted(kept)
    (after,) = copy.done("keys", "status")["tenants"]
    assert (after["kek"], after["state"], after["retired"]) == (now["kek"], "active", [])
    kms = registry.create(copy.config.kms, None)
    assert {kms.state(kek).value for kek in kept} == {"destroyed"}
    assert copy.done("verify", REPLICA)["findings"] == []
    assert "keys destroy-old" in copy.run("audit", "show", "--json").out
    copy.refused(EXIT_NOT_FOUND, "keys", "destroy-old", "globex")


def test_a_dek_is_rotated(copy: Site) -> None:
    assert copy.done("keys", "rotate-dek", "web01")["disks"] == [
        {"disk": 2000, "epoch": 2},
        {"disk": 2001, "epoch": 2},
    ]
    assert "epoch 3" in copy.run("keys", "rotate-dek", "web01").out
    assert copy.done("verify", REPLICA)["findings"] == []


def test_revealed_keys_open_points_without_us(copy: Site, replicated: tuple[Site, World], tmp_path: Path) -> None:
    out = tmp_path / "keys.json"
    told = copy.run("keys", "reveal", "web01", "--out", out, "--yes")
    assert told.code == 0, told
    assert out.stat().st_mode & 0o777 == 0o600
    deks = revealed(out)
    assert set(deks) == {(2000, 1), (2001, 1)}
    assert not any(dek.hex() in told.out + told.err for dek in deks.values())
    reader = SecondReader(copy.folder / "store" / "tenants" / TENANT / "replicas" / REPLICA)
    for point in (1, 2):
        image = tmp_path / f"{point}.raw"
        reader.write(point, 2000, deks[2000, 1], image)
        assert image.read_bytes() == replicated[1].image(point)
    audit = copy.run("audit", "show", "--json").out
    assert "keys reveal" in audit
    assert not any(dek.hex() in audit for dek in deks.values())


def test_nothing_is_revealed_unasked_or_over_another_file(copy: Site, tmp_path: Path) -> None:
    out = tmp_path / "keys.json"
    error = copy.refused(EXIT_REFUSED, "keys", "reveal", "web01", "--out", out)
    assert "not confirmed" in error["message"]
    assert not out.exists()
    out.write_text("mine")
    copy.refused(EXIT_REFUSED, "keys", "reveal", "web01", "--out", out, "--yes")
    assert out.read_text() == "mine"


@pytest.mark.parametrize(("typed", "code"), [("web01\n", 0), ("web02\n", EXIT_REFUSED)])
def test_the_replica_is_typed_again(copy: Site, tmp_path: Path, typed: str, code: int) -> None:
    out = tmp_path / "keys.json"
    outcome = run("--config", copy.folder / "appliance.toml", "keys", "reveal", "web01", "--out", out, typed=typed)
    assert outcome.code == code
    assert out.exists() == (code == 0)
    if out.exists():
        assert json.loads(out.read_text())["replica"] == REPLICA
