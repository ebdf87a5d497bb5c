"""Keys that change under a serving appliance and a real KMS, of each kind that lies outside of the appliance."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.pair import TENANT, Pair
from tests.end_to_end.search import files, hits, text_disguises
from tests.lab import softhsm
from tests.lab.openbao_site import OpenBaoSite
from tests.lab.site import Lab

pytestmark = pytest.mark.lab
VM = "web01"


def _kmip(lab: Lab) -> Iterator[Pair]:
    with Pair(lab) as pair:
        yield pair


def _pkcs11(lab: Lab) -> Iterator[Pair]:
    token = softhsm.of_process()
    table = f'module = "{token.module}"\ntoken_label = "{softhsm.LABEL}"\npin_file = "{token.pin_file}"'
    with Pair(_at_debug(lab), "pkcs11", table=table) as pair:
        yield pair
    _stays_at_home(lab, softhsm.PIN, token.pin_file)


def _transit(lab: Lab) -> Iterator[Pair]:
    with OpenBaoSite(lab.folder / "openbao") as server:
        table = f'endpoints = ["{server.endpoint}"]\nserver_name = "localhost"\n'
        table += f'ca_file = "{server.ca_file}"\ntoken_file = "{server.token_file}"'
        with Pair(_at_debug(lab), "transit", table=table) as pair:
            yield pair
        _stays_at_home(lab, server.token, server.token_file)


def _at_debug(lab: Lab) -> Lab:
    lab.appliance_toml.write_text(lab.appliance_toml.read_text().replace('level = "info"', 'level = "debug"'))
    return lab


def _stays_at_home(lab: Lab, secret: str, home: Path) -> None:
    """What opens the KMS stands in its file, and nowhere in what the appliance wrote, its log at debug included."""
    forms = text_disguises(secret)
    assert hits([home], forms)
    assert hits((path for path in files(lab.folder, without=[lab.folder / "disks"]) if path != home), forms) == []


@pytest.fixture(params=[_kmip, _pkcs11, _transit], ids=["kmip", "pkcs11", "transit"])
def pair(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Pair]:
    """A pair under each."""
    yield from request.param(lab)


def written(pair: Pair, seed: int) -> None:
    pair.lab.guest(VM, 2000).write(seed << 20, random.Random(seed).randbytes(1 << 20))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_keys_are_rotated_and_destroyed_while_the_appliance_serves(pair: Pair, tmp_path: Path) -> None:
    written(pair, 1)
    replica = pair.sync(VM)["replica"]
    before = bytes_of(pair.point_folder(replica, 1))
    (old,) = pair.done("keys", "status")["tenants"]
    done = pair.done("keys", "rotate-kek", TENANT, "--destroy-old")
    assert done["destroyed"] == [old["kek"]]
    written(pair, 2)
    assert pair.sync(VM)["kind"] == "delta"

    pair.done("keys", "rotate-dek", VM)
    written(pair, 3)
    report = pair.sync(VM)
    assert report["kind"] == "full"
    assert {disk["rule"] for disk in report["disks"]} == {"key-rotated"}
    written(pair, 4)
    assert pair.sync(VM)["kind"] == "delta"
    assert pair.done("verify", VM)["findings"] == []
    assert bytes_of(pair.point_folder(replica, 1)) == before

    assert pair.appliance is not None
    limits = Path(f"/proc/{pair.appliance.process.pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "core" in line).split()[4:6] == ["0", "0"]

    receipt = tmp_path / "receipt.json"
    body = pair.done("tenants", "erase", TENANT, "--receipt", receipt, "--yes")
    assert {kek["state"] for kek in body["keks"]} <= {"destroyed", "absent"}
    assert body["points"] == 4
    refused = pair.refused(VM)
    assert refused.error["reason"] in {"CERTIFICATE", "ACCESS_DENIED"}
    assert not pair.point_folder(replica, 1).exists()
