"""Verify finds every altered byte, names it, and calls nothing corrupt that it could not read."""

import random

import pytest

from common.errors import KeyNotUsableError, NotFoundError
from target_appliance.kms.port import KekState
from target_appliance.recovery.digests import CHUNK_BYTES
from target_appliance.recovery.findings import Kind
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.seal import selfcheck
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, spec
from tests.faults.store import FaultStore, Trap, io_error

DELTA = SyncKind.DELTA
HERE = f"tenants/{TENANT}/replicas/{REPLICA}"


@pytest.fixture(scope="module")
def made():
    """Three points of two disks, one of them large enough for two digest chunks. Never altered: tests copy it."""
    world = World()
    world.sync(
        {
            spec(): {grain: grain_bytes(grain, random_bytes=grain < 30) for grain in range(40)},
            spec(OTHER_DISK, capacity_bytes=(64 << 30) + 512): {1: grain_bytes(1), (64 << 30) // 65536: grain_bytes(2)},
        }
    )
    for number in (2, 3):
        world.sync(
            {
                spec(kind=DELTA): {number: grain_bytes(100 + number), 50: None},
                spec(OTHER_DISK, capacity_bytes=(64 << 30) + 512, kind=DELTA): {},
            },
            DELTA,
        )
    return world


@pytest.fixture
def world(made):
    copy = World(kms=made.kms, model=made.model)
    copy.store._folders = set(made.store._folders)
    copy.store._files = {path: bytearray(content) for path, content in made.store._files.items()}
    return copy


def verify(world, with_key, **options):
    return world.vault.verify(TENANT, REPLICA, with_key=with_key, **options)


BOTH = pytest.mark.parametrize("with_key", [False, True], ids=["keyless", "with key"])


@BOTH
def test_nothing_is_found_where_nothing_is_wrong(world, with_key):
    passed = []
    report = verify(world, with_key, progress=passed.append)

    assert report.findings == ()
    assert not report.damaged
    assert not report.unreachable
    assert (report.points, report.files) == ((1, 2, 3), 29)
    stored = sum(world.vault.stored_bytes(TENANT, REPLICA, point) for point in (1, 2, 3))
    key_files = len(world.store.content(f"{HERE}/replica.json")) + len(
        world.store.content(f"tenants/{TENANT}/tenant.json")
    )
    assert report.bytes == sum(passed) == stored + key_files
    # Zeroed grains have nothing to open.
    assert report.grains == (40 + 2 + 1 + 1 if with_key else 0)


def all_files(world):
    return sorted("/".join(path) for path in world.store._files)


def name_of(path):
    return path.rsplit("/", 1)[-1]


def check_found(report, path, place):
    """Some finding names the file and the byte, and says which points suffer."""
    point = int(path.split("/points/")[1][:6]) if "/points/" in path else None
    fitting = [
        finding
        for finding in report.findings
        if finding.file == name_of(path)
        and finding.point == point
        and finding.first is not None
        and finding.first <= place <= finding.last
    ]
    assert fitting, (path, place, list(map(str, report.findings)))
    assert report.damaged
    for finding in fitting:
        assert finding.replica == REPLICA
        if "disk-" in path:
            assert finding.disk == int(name_of(path)[5:9])
        assert set(finding.affects) == ({1, 2, 3} if point is None else set(range(point, 4)))
        assert name_of(path) in str(finding)
    return fitting


@BOTH
def test_a_flipped_byte_in_every_file_is_found(world, with_key):
    rng = random.Random(7)
    files = all_files(world)
    assert len(files) == 29
    for path in files:
        content = world.store.content(path)
        for place in {0, len(content) - 1, rng.randrange(len(content)), rng.randrange(len(content))}:
            content[place] ^= 1 << rng.randrange(8)
            found = check_found(verify(world, with_key), path, place)
            assert {finding.kind for finding in found} <= {Kind.CORRUPT, Kind.FORGED}
            content[place] = _ORIGINAL[path][place]


_ORIGINAL = {}


@pytest.fixture(autouse=True)
def _remember(made):
    _ORIGINAL.update({"/".join(path): bytes(content) for path, content in made.store._files.items()})


def test_with_the_key_the_exact_grain_is_named(world):
    path = f"{HERE}/points/000001/disk-2000.vmdk"
    content = world.store.content(path)
    place = len(content) // 2
    content[place] ^= 1

    found = check_found(verify(world, True), path, place)
    chunk = next(finding for finding in found if finding.grain is None)
    grain = next(finding for finding in found if finding.grain is not None)
    begin = place // CHUNK_BYTES * CHUNK_BYTES
    assert (chunk.first, chunk.last) == (begin, min(begin + CHUNK_BYTES, len(content)) - 1)
    assert grain.last - grain.first < 66_100
    assert 0 < grain.grain < 30


@BOTH
@pytest.mark.parametrize("how", ["cut", "cut to nothing", "longer", "zeroed"])
def test_files_of_another_length_or_zeroed(world, with_key, how):
    for path in all_files(world):
        content = world.store.content(path)
        if how == "cut":
            del content[-1:]
        elif how == "cut to nothing":
            content.clear()
        elif how == "longer":
            content += b"\0"
        else:
            content[:] = bytes(len(content))
        report = verify(world, with_key)
        assert report.damaged
        assert name_of(path) in {finding.file for finding in report.findings}
        content[:] = _ORIGINAL[path]


@BOTH
def test_missing_files(world, with_key):
    for path in all_files(world):
        key = tuple(path.split("/"))
        content = world.store._files.pop(key)
        report = verify(world, with_key)
        assert any(finding.file == name_of(path) and finding.kind is Kind.MISSING for finding in report.findings), path
        world.store._files[key] = content


@BOTH
def test_extra_files(world, with_key):
    places = [
        (f"{HERE}/points/000002/disk-2002.vmdk", "disk-2002.vmdk"),
        (f"{HERE}/points/000002/.nfs0001", ".nfs0001"),
        (f"{HERE}/points/notes.txt", "points/notes.txt"),
        (f"{HERE}/core", "core"),
    ]
    for path, name in places:
        world.store.create(path)
        report = verify(world, with_key)
        assert [(finding.kind, finding.file, finding.affects) for finding in report.findings] == [
            (Kind.EXTRA, name, ())
        ]
        del world.store._files[tuple(path.split("/"))]


@BOTH
def test_leftovers_of_a_crash_are_no_damage(world, with_key):
    world.store.make_folder(f"{HERE}/staging/00000000-0000-4000-8000-00000000000c")
    world.store.make_folder(f"{HERE}/rewrite")

    assert verify(world, with_key).findings == ()


def same_files_of_two_points(world):
    names = [name for name in world.store.names(f"{HERE}/points/000002") if "disk-2000" in name or name == "point.json"]
    return [(f"{HERE}/points/000002/{name}", f"{HERE}/points/000003/{name}") for name in names]


@BOTH
def test_swapped_files(world, with_key):
    for first, second in same_files_of_two_points(world):
        one, two = world.store.content(first), world.store.content(second)
        one[:], two[:] = bytes(two), bytes(one)
        report = verify(world, with_key)
        assert report.damaged
        assert {2, 3} <= {finding.point for finding in report.findings if finding.file == name_of(first)}
        one[:], two[:] = bytes(two), bytes(one)
    assert verify(world, with_key).findings == ()


@BOTH
def test_a_whole_point_that_is_missing(world, with_key):
    world.store.remove_tree(f"{HERE}/points/000002")
    report = verify(world, with_key)

    assert [(finding.kind, finding.point) for finding in report.findings] == [(Kind.MISSING, 2)]
    assert report.findings[0].affects == (3,)


@BOTH
def test_the_newest_point_that_is_missing_is_known_from_elsewhere(world, with_key):
    world.store.remove_tree(f"{HERE}/points/000003")
    assert verify(world, with_key).findings == ()

    report = verify(world, with_key, committed=(1, 2, 3))
    assert [(one.kind, one.point) for one in report.findings] == [(Kind.MISSING, 3)]
    assert verify(world, with_key, point=3, committed=(1, 2, 3)).damaged
    assert verify(world, with_key, point=2, committed=(1, 2, 3)).findings == ()
    world.store.remove_tree(f"{HERE}/points")
    assert {one.point for one in verify(world, with_key, committed=(1, 2)).findings} == {1, 2}


def test_one_point_with_what_it_stands_on(world):
    world.sync({spec(): {1: grain_bytes(7)}, spec(OTHER_DISK): {}})

    assert verify(world, True, point=2).points == (1, 2)
    assert verify(world, True, point=4).points == (4,)
    assert verify(world, True).points == (1, 2, 3, 4)
    world.store.content(f"{HERE}/points/000003/point.json")[5] ^= 1
    assert verify(world, True, point=2).findings == ()
    assert verify(world, True, point=3).damaged
    assert verify(world, True, point=4).findings == ()


def test_what_is_not_there_is_not_verified(world):
    with pytest.raises(NotFoundError):
        verify(world, False, point=9)
    with pytest.raises(NotFoundError):
        world.vault.verify(TENANT, "4c4c4544-0000-0000-0000-000000000000", with_key=False)


def test_without_the_kms_the_keyless_check_works(world):
    away = Vault(world.store, None, world.clock)
    assert away.verify(TENANT, REPLICA, with_key=False).findings == ()
    world.store.content(f"{HERE}/points/000003/disk-2000.vmdk")[600] ^= 1
    assert away.verify(TENANT, REPLICA, with_key=False).damaged


def test_a_key_that_may_not_be_used_is_no_damage(world):
    kek_id = world.vault.require_key(TENANT)
    world.kms.set_state(kek_id, KekState.DEACTIVATED)
    try:
        with pytest.raises(KeyNotUsableError):
            verify(world, True)
    finally:
        world.kms.set_state(kek_id, KekState.ACTIVE)


def test_a_failing_store_is_unreachable_never_corrupt(world):
    trap = Trap()
    Vault(FaultStore(world.store, trap), world.kms, world.clock).verify(TENANT, REPLICA, with_key=True)
    reads = [number for number, call in enumerate(trap.calls, 1) if call.startswith(("read_at", "open"))]
    assert len(reads) > 100
    unreachable = 0
    for at in random.Random(3).sample(reads, 60):
        store = FaultStore(world.store, Trap(at=at, error=io_error))
        report = Vault(store, world.kms, world.clock).verify(TENANT, REPLICA, with_key=True)
        assert not report.damaged, list(map(str, report.findings))
        unreachable += report.unreachable
    assert unreachable == 60


def rewrite(world, path, change):
    members = selfcheck.decode(bytes(world.store.content(path)))
    change(members)
    world.store.content(path)[:] = selfcheck.encode(members)


def test_what_was_forged_with_fitting_digests(world):
    """Whoever can write the store can make every keyless digest fit; the keys tell."""
    path = f"{HERE}/points/000003/point.json"
    rewrite(world, path, lambda members: members["record"].update(vm_name="other"))
    assert verify(world, False).findings == ()
    assert {finding.kind for finding in verify(world, True).findings} == {Kind.FORGED}
    world.store.content(path)[:] = _ORIGINAL[path]

    # A record in the middle is told by the next one's hash, even without a key.
    path = f"{HERE}/points/000002/point.json"
    rewrite(world, path, lambda members: members["record"].update(vm_name="other"))
    assert [finding.point for finding in verify(world, False).findings] == [3]
    world.store.content(path)[:] = _ORIGINAL[path]


@pytest.mark.parametrize(
    "change",
    [
        {"parent": None},
        {"parent": None, "parent_hash": "00" * 32},
        {"parent": 3},
        {"parent": 1},
        {"point": 4},
        {"replica": "4c4c4544-0000-0000-0000-000000000000"},
        {"tenant": "other"},
        {"kind": "other"},
        {"sync": "../../x"},
        {"unknown": 1},
        {"disks": [{}]},
        {"snapshot_time": None},
    ],
    ids=str,
)
def test_records_that_cannot_be(world, change):
    path = f"{HERE}/points/000003/point.json"
    rewrite(world, path, lambda members: members["record"].update(change))

    assert verify(world, True).damaged


def test_disks_that_stand_on_what_cannot_be(world):
    path = f"{HERE}/points/000003/point.json"
    for base in (3, 4, None):
        rewrite(world, path, lambda members, base=base: members["record"]["disks"][0].update(base_point=base))
        assert verify(world, True).damaged
        world.store.content(path)[:] = _ORIGINAL[path]


def test_wrapped_keys_that_were_altered(world):
    path = f"{HERE}/replica.json"
    rewrite(world, path, lambda members: members["keys"][0].update(tag="00" * 16))
    found = verify(world, True).findings
    assert [(finding.kind, finding.disk, finding.file) for finding in found] == [(Kind.FORGED, DISK, "replica.json")]
    world.store.content(path)[:] = _ORIGINAL[path]

    rewrite(world, path, lambda members: members["keys"].pop(1))
    found = verify(world, True).findings
    assert [(finding.kind, finding.disk) for finding in found] == [(Kind.MISSING, OTHER_DISK)]
    rewrite(world, path, lambda members: members.update(replica="4c4c4544-0000-0000-0000-000000000000"))
    assert verify(world, False).damaged


def test_a_newer_format_is_said_so(world):
    path = f"{HERE}/points/000003/point.json"
    rewrite(world, path, lambda members: members.update(format=2))

    (finding,) = [finding for finding in verify(world, False).findings if finding.file == "point.json"]
    assert "format version 2" in finding.what
