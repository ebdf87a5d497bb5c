from pathlib import Path

import pytest

from common.errors import EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_USAGE
from target_appliance.kms import registry
from target_appliance.kms.port import KekState
from tests.unit.target_appliance.cli.conftest import Site

VM = "5a1f0000-0000-4000-8000-000000000001"


@pytest.fixture
def ready(site: Site) -> Site:
    """An appliance with tenant acme, and an image beside it."""
    site.done("init")
    site.done("tenants", "add", "acme", "--out", site.folder / "agent")
    (site.folder / "a.raw").write_bytes(b"seed" * (1 << 18))
    return site


def words(site: Site, *more: str) -> list[str]:
    return ["seed", "import", VM, "--tenant", "acme", "--disk", f"2000={site.folder / 'a.raw'}", *more]


def test_a_seed_is_point_1_and_can_be_verified_and_exported(ready: Site) -> None:
    (ready.folder / "b.raw").write_bytes(bytes(512))
    made = ready.done(*words(ready, "--disk", f"2001={ready.folder / 'b.raw'}", "--vm-name", "web01"))
    assert (made["replica"], made["vm"], made["point"]) == (VM, "web01", 1)
    assert made["disks"] == [{"key": 2000, "capacity_bytes": 1 << 20}, {"key": 2001, "capacity_bytes": 512}]
    (point,) = ready.done("points", "web01")["points"]
    assert (point["kind"], point["record_hash"], point["stored_bytes"]) == (
        "full",
        made["record_hash"],
        made["stored_bytes"],
    )
    assert ready.done("verify", VM)["findings"] == []
    ready.done("export", VM, "--disk", 2000, "--out", ready.folder / "out.raw")
    assert (ready.folder / "out.raw").read_bytes() == (ready.folder / "a.raw").read_bytes()


def test_it_tells_people_what_comes_next(ready: Site) -> None:
    told = ready.run(*words(ready))
    assert told.code == 0, told
    assert f"replica {VM}, point 1: disk 2000, 1048576 bytes" in told.out
    assert "next: sync the VM, which compares; then remove the images" in told.out
    assert "has points already" in ready.refused(EXIT_REFUSED, *words(ready))["message"]


def test_it_is_refused_while_the_key_is_not_active(ready: Site) -> None:
    ready.done(*words(ready))
    (key,) = ready.done("kms", "status")["keys"]
    registry.create(ready.config.kms, None).set_state(key["kek"], KekState.DEACTIVATED)
    other = ["seed", "import", VM.replace("1", "2"), *words(ready)[3:]]
    assert ready.refused(EXIT_REFUSED, *other)["reason"] == "KEY_NOT_USABLE"
    assert len(ready.done("replicas")["replicas"]) == 1


@pytest.mark.parametrize(
    ("code", "given"),
    [
        (EXIT_USAGE, ["2000"]),
        (EXIT_USAGE, ["2000="]),
        (EXIT_USAGE, ["one=a.raw"]),
        (EXIT_USAGE, ["-1=a.raw"]),
        (EXIT_USAGE, ["99999999999=a.raw"]),
        (EXIT_USAGE, ["2000=a.raw", "2000=a.raw"]),
        (EXIT_USAGE, ["2000=odd.raw"]),
        (EXIT_NOT_FOUND, ["2000=nothing.raw"]),
    ],
)
def test_disks_that_cannot_be(ready: Site, code: int, given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ready.folder)
    Path("odd.raw").write_bytes(bytes(513))
    options = [word for one in given for word in ("--disk", one)]
    ready.refused(code, "seed", "import", VM, "--tenant", "acme", *options)
    assert ready.done("replicas") == {"replicas": []}


@pytest.mark.parametrize(
    ("code", "replica", "more"),
    [
        (EXIT_NOT_FOUND, VM, ["--tenant", "globex"]),
        (EXIT_USAGE, VM, ["--tenant", "Acme"]),
        (EXIT_USAGE, "web01", ["--tenant", "acme"]),
        (EXIT_USAGE, VM, ["--tenant", "acme", "--vm-name", "a\nb"]),
        (EXIT_USAGE, VM, ["--tenant", "acme", "--vm-name", "a" * 256]),
    ],
)
def test_names_that_cannot_be(ready: Site, code: int, replica: str, more: list[str]) -> None:
    ready.refused(code, "seed", "import", replica, *more, "--disk", f"2000={ready.folder / 'a.raw'}")
    assert ready.done("replicas") == {"replicas": []}
