"""An attacker who writes the store makes every digest fit: without a key nothing shows, with the key all of it."""

import struct

import pytest
from blake3 import blake3

from common.grain import ZERO_DIGEST
from target_appliance.recovery.digests import CHUNK_BYTES, DigestList, DigestListWriter
from target_appliance.recovery.findings import Kind
from target_appliance.recovery.types import SyncKind
from target_appliance.seal import selfcheck
from target_appliance.seal.keys import DataKey
from target_appliance.seal.manifest import RECORD, ManifestWriter
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, spec

POINT = f"tenants/{TENANT}/replicas/{REPLICA}/points/000002"
VMDK = f"{POINT}/disk-2000.vmdk"
MANIFEST = f"{POINT}/disk-2000.manifest"
SYNC = "00000000-0000-4000-8000-000000000002"


@pytest.fixture
def world():
    world = World()
    world.sync({spec(): {0: grain_bytes(1), 3: grain_bytes(2)}})
    world.sync({spec(kind=SyncKind.DELTA): {3: grain_bytes(3), 4: None, 5: grain_bytes(4)}}, SyncKind.DELTA, SYNC)
    return world


def fit_digests(world):
    """Make the disk's digest list that of its files as they are now."""
    path = f"{POINT}/disk-2000.digests"
    with world.store.open(path) as file:
        names = [entry.name for entry in DigestList(file, REPLICA, DISK, 2).files]
    del world.store._files[tuple(path.split("/"))]
    with world.store.create(path) as file:
        writer = DigestListWriter(file, REPLICA, DISK, 2)
        for name in names:
            content = bytes(world.store.content(f"{POINT}/{name}"))
            chunks = (content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES))
            writer.add(name, len(content), b"".join(blake3(chunk).digest(length=16) for chunk in chunks))
        writer.finish()


def found(world):
    """What the key shows after the digests were made to fit, which hides it from everybody else."""
    fit_digests(world)
    assert world.vault.verify(TENANT, REPLICA, with_key=False).findings == ()
    report = world.vault.verify(TENANT, REPLICA, with_key=True)
    assert all(finding.point == 2 and finding.affects == (2,) for finding in report.findings)
    return {(finding.file, finding.kind, finding.grain) for finding in report.findings}


def table_of(content):
    directory = struct.unpack_from("<Q", content, 56)[0] * 512
    return struct.unpack_from("<I", content, directory)[0] * 512


@pytest.mark.parametrize(
    ("grain", "entry", "named"),
    [(3, 0, {3}), (3, 1, {3}), (4, 0, {4}), (7, 1, {7}), (4, "of 3", {4}), (3, "of 5", {3}), (5, "odd", {5})],
)
def test_altered_table_entries(world, grain, entry, named):
    content = world.store.content(VMDK)
    table = table_of(content)
    if isinstance(entry, str):
        other = int(entry[3:]) if entry.startswith("of ") else grain
        entry = struct.unpack_from("<I", content, table + 4 * other)[0] + (entry == "odd")
    struct.pack_into("<I", content, table + 4 * grain, entry)

    assert found(world) == {("disk-2000.vmdk", Kind.CORRUPT, name) for name in named}


def test_an_altered_byte_of_a_grain(world):
    content = world.store.content(VMDK)
    sector = struct.unpack_from("<I", content, table_of(content) + 4 * 5)[0]
    content[sector * 512 + 12 + 20] ^= 1

    assert found(world) == {("disk-2000.vmdk", Kind.CORRUPT, 5)}


def test_a_broken_header(world):
    world.store.content(VMDK)[0] ^= 1

    assert found(world) == {("disk-2000.vmdk", Kind.CORRUPT, None)}


def test_an_older_grain_in_a_newer_ones_place(world):
    """Rightly sealed, for this very grain, by the point below: only the manifest tells."""
    old = world.store.content(VMDK.replace("000002", "000001"))
    first = struct.unpack_from("<I", old, table_of(old) + 4 * 3)[0] * 512
    content = world.store.content(VMDK)
    at = struct.unpack_from("<I", content, table_of(content) + 4 * 3)[0] * 512
    (size,) = struct.unpack_from("<I", old, first + 8)
    assert size == struct.unpack_from("<I", content, at + 8)[0]
    content[at : at + 12 + size] = old[first : first + 12 + size]

    assert found(world) == {("disk-2000.vmdk", Kind.CORRUPT, 3)}


def test_a_manifest_that_a_key_holder_made_for_other_grains(world):
    """Its tags fit, its root does not."""
    key = DataKey(REPLICA, DISK, 1, world.dek())
    del world.store._files[tuple(MANIFEST.split("/"))]
    with world.store.create(MANIFEST) as file:
        writer = ManifestWriter(file, key, 2, SYNC)
        writer.add(RECORD.pack(3, ZERO_DIGEST) + RECORD.pack(9, ZERO_DIGEST))
        writer.finish()

    assert ("disk-2000.manifest", Kind.FORGED, None) in found(world)


def test_a_digest_list_of_other_files(world):
    path = f"{POINT}/disk-2000.digests"
    del world.store._files[tuple(path.split("/"))]
    with world.store.create(path) as file:
        writer = DigestListWriter(file, REPLICA, DISK, 2)
        for name in ("disk-2000.vmdk", "../../../../tenant.json", "disk-2000.manifest"):
            writer.add(name, 0, b"")
        writer.finish()

    kinds = {finding.file: finding.kind for finding in world.vault.verify(TENANT, REPLICA, with_key=False).findings}
    assert kinds["disk-2000.digests"] is Kind.FORGED
    assert "../../../../tenant.json" not in kinds


def test_an_altered_descriptor(world):
    content = world.store.content(VMDK)
    at = content.index(b"parentCID=00000001")
    content[at : at + 18] = b"parentCID=ffffffff"
    fit_digests(world)

    for with_key in (False, True):
        (finding,) = world.vault.verify(TENANT, REPLICA, with_key=with_key).findings
        assert (finding.kind, finding.what, finding.first) == (Kind.CORRUPT, "the descriptor is not the record's", 512)


@pytest.mark.parametrize(
    "change",
    [
        {"capacity_bytes": 1 << 60},
        {"capacity_bytes": "4194304"},
        {"capacity_bytes": 1000},
        {"encrypted": 1},
        {"adapter": "ü"},
        {"key": -1},
        {"base_point": 0},
        {"manifest_root": 5},
        {"extra": 1},
    ],
    ids=str,
)
def test_records_with_disks_that_cannot_be(world, change):
    path = f"{POINT}/point.json"
    members = selfcheck.decode(bytes(world.store.content(path)))
    members["record"]["disks"][0].update(change)
    world.store.content(path)[:] = selfcheck.encode(members)

    findings = world.vault.verify(TENANT, REPLICA, with_key=True).findings
    assert {(finding.file, finding.kind) for finding in findings} == {("point.json", Kind.CORRUPT)}
