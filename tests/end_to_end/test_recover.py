"""A tenant's operator reads its replicas back at its own site, with the real commands; nobody else does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_USAGE
from tests.end_to_end.ledger import Ledger, digest_of
from tests.end_to_end.pair import TENANT, Pair
from tests.end_to_end.refusing import sentence
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

VM = "web01"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with (
        Lab(tmp_path_factory.mktemp("recover") / "lab", disk_mib=16) as lab,
        Pair(lab) as pair,
        Ledger(pair, VM) as made,
    ):
        made.sync()
        made.write()
        made.sync()
        _operator(pair, TENANT)
        yield made


def _operator(pair: Pair, tenant: str) -> None:
    """The lab's agent.toml names an operator's certificate of ``tenant`` from now on."""
    folder = pair.folder / "operator"
    shutil.rmtree(folder, ignore_errors=True)
    pair.done("operators", "add", tenant, "--out", folder)
    config = pair.lab.agent_toml
    text = config.read_text().split("[operator]")[0]
    config.write_text(
        f'{text}[operator]\ncertificate_file = "operator/operator.crt"\nkey_file = "operator/operator.key"\n'
    )


def test_an_operator_gets_every_point_back(ledger: Ledger, tmp_path: Path) -> None:
    pair = ledger.pair
    (row,) = pair.source("replicas", "--json").json["replicas"]
    assert (row["vm"], row["points"], row["replica"]) == (VM, 2, ledger.replica)
    points = pair.source("points", VM, "--json").json["points"]
    assert [(point["point"], point["kind"]) for point in points] == [(1, "full"), (2, "delta")]
    for point in points:
        for disk in point["disks"]:
            out = tmp_path / f"{point['point']}-{disk['disk']}.raw"
            words = ("fetch", ledger.replica, "--disk", disk["disk"], "--point", point["point"], "--out", out, "--json")
            fetched = pair.source(*words)
            assert fetched.code == 0, fetched
            assert out.stat().st_mode & 0o777 == 0o600
            assert out.stat().st_size == disk["bytes"]
            assert digest_of(out) == ledger.points[point["point"]][disk["disk"]]
    assert pair.source("fetch", VM, "--disk", 2000, "--out", tmp_path / "newest.raw").code == 0
    assert digest_of(tmp_path / "newest.raw") == ledger.points[2][2000]


def test_what_is_not_there_is_said_and_writes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    source, out = ledger.pair.source, tmp_path / "out.raw"
    sentence(source("points", "nobody"), EXIT_NOT_FOUND, "no replica of nobody")
    sentence(source("fetch", VM, "--disk", 2000, "--point", 9, "--out", out), EXIT_NOT_FOUND, "points are 1 to 2")
    sentence(source("fetch", VM, "--disk", 7, "--out", out), EXIT_NOT_FOUND, "has no disk 7")
    out.write_bytes(b"mine")
    sentence(source("fetch", VM, "--disk", 2000, "--out", out), EXIT_REFUSED, "is there already")
    assert [path.name for path in tmp_path.iterdir()] == ["out.raw"]


def test_neither_the_agent_nor_another_tenant_reads(ledger: Ledger, tmp_path: Path) -> None:
    pair, out = ledger.pair, tmp_path / "out.raw"
    config = pair.lab.agent_toml
    before = config.read_text()
    config.write_text(before.split("[operator]")[0])
    sentence(pair.source("replicas"), EXIT_USAGE, "[operator]")
    config.write_text(before.replace('"operator/operator.', '"agent/agent.'))
    sentence(pair.source("replicas"), EXIT_REFUSED, "role agent", "role operator")
    sentence(pair.source("fetch", ledger.replica, "--disk", 2000, "--out", out), EXIT_REFUSED, "role agent")
    config.write_text(before)
    pair.done("tenants", "add", "rival", "--out", tmp_path / "rival")
    _operator(pair, "rival")
    assert pair.source("replicas", "--json").json["replicas"] == []
    sentence(pair.source("fetch", ledger.replica, "--disk", 2000, "--out", out), EXIT_NOT_FOUND, "no replica")
    assert not out.exists()
    _operator(pair, TENANT)


def test_an_operator_writes_nothing(ledger: Ledger) -> None:
    config = ledger.pair.lab.agent_toml
    before = config.read_text()
    config.write_text(before.replace('"agent/agent.', '"operator/operator.'))
    sentence(ledger.pair.source("sync", VM), EXIT_REFUSED, "operator")
    config.write_text(before)
    ledger.check_nothing_else()
    ledger.check_source()
