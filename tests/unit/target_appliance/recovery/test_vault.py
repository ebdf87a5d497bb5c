"""The vault: what is committed reads back, what is not does not show, and what it refuses."""

import threading

import numpy as np
import pytest

from common.errors import (
    DamagedError,
    FencedError,
    InvalidInputError,
    KeyNotUsableError,
    KmsUnavailableError,
    NotFoundError,
    PreconditionError,
    ProtocolError,
    StoreError,
)
from common.grain import GRAIN_BYTES, ZERO_DIGEST, digest
from common.ids import ReplicaId, SyncId, TenantId, new_sync_id
from target_appliance.kms.port import KekState
from target_appliance.recovery.types import NO_PARENT_HASH, SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.seal import selfcheck
from target_appliance.store.memory import MemoryStore
from tests.fakes.clock import ManualClock
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, grain_record, send, spec

DELTA = SyncKind.DELTA
COMPARE = SyncKind.COMPARE


@pytest.fixture
def world():
    return World()


def chain_of_three(world):
    world.sync({spec(): {0: grain_bytes(1), 5: grain_bytes(2, random_bytes=True), 63: grain_bytes(3)}})
    world.sync({spec(kind=DELTA): {5: None, 6: grain_bytes(4)}}, DELTA)
    world.sync({spec(kind=COMPARE): {0: grain_bytes(5)}}, COMPARE)


def test_points_read_as_the_model_says(world):
    chain_of_three(world)

    for point in (1, 2, 3):
        assert world.read(point) == world.image(point)


def test_records(world):
    done = world.sync({spec(): {0: grain_bytes(1)}, spec(OTHER_DISK): {}})
    world.clock.advance(60)
    world.sync({spec(kind=DELTA): {}, spec(OTHER_DISK, kind=DELTA): {1: None}}, DELTA)

    first, second = world.vault.points(TENANT, REPLICA)
    assert world.vault.newest(TENANT, REPLICA) == second
    assert (first.number, first.parent, first.parent_hash) == (1, None, NO_PARENT_HASH)
    assert (second.number, second.parent, second.parent_hash) == (2, 1, first.record_hash)
    assert first.record_hash == done.record_hash
    assert done.stored_bytes == world.vault.stored_bytes(TENANT, REPLICA, 1)
    assert second.commit_time == first.commit_time + 60
    assert [disk.base_point for disk in second.disks] == [1, 1]
    assert [disk.grains for disk in second.disks] == [0, 1]
    assert second.disk(DISK).spec == spec(kind=DELTA)
    assert second.disk(9) is None
    assert world.vault.tenants() == (TENANT,)
    assert world.vault.replicas(TENANT) == (REPLICA,)
    assert world.vault.points(TENANT, ReplicaId("0" * 8 + REPLICA[8:])) == ()
    assert world.vault.newest(TENANT, ReplicaId("0" * 8 + REPLICA[8:])) is None


def effective(world, ranges=None, point=None, disk=DISK):
    found = {}
    for indices, digests in world.vault.manifest(TENANT, REPLICA, disk, ranges, point):
        assert indices.dtype == np.uint32
        assert digests.shape == (len(indices), 16)
        found |= dict(zip(indices.tolist(), map(bytes, digests), strict=True))
    return found


def test_manifest_is_folded_over_the_chain(world):
    chain_of_three(world)

    expected = {0: digest(grain_bytes(5)), 5: ZERO_DIGEST, 6: digest(grain_bytes(4)), 63: digest(grain_bytes(3))}
    assert effective(world) == expected
    assert effective(world, [(0, 6), (63, 1)]) == {grain: expected[grain] for grain in (0, 5, 63)}
    assert effective(world, [(6, 1000)]) == {grain: expected[grain] for grain in (6, 63)}
    assert effective(world, []) == {}
    assert set(effective(world, point=1)) == {0, 5, 63}
    assert effective(world, disk=OTHER_DISK) == {}


def test_manifest_of_a_disk_that_the_newest_point_lacks(world):
    world.sync({spec(): {0: grain_bytes(1)}, spec(OTHER_DISK): {1: grain_bytes(2)}})
    world.sync({spec(kind=DELTA): {}}, DELTA)

    assert set(effective(world, disk=OTHER_DISK)) == {1}


def test_a_disk_that_comes_back_stands_on_the_newest_point_that_has_it(world):
    world.sync({spec(): {0: grain_bytes(1)}, spec(OTHER_DISK): {1: grain_bytes(2)}})
    world.sync({spec(kind=DELTA): {}}, DELTA)
    world.sync({spec(kind=DELTA): {}, spec(OTHER_DISK, kind=COMPARE): {3: grain_bytes(3)}}, DELTA)

    assert [disk.base_point for disk in world.vault.point(TENANT, REPLICA, 3).disks] == [2, 1]
    assert world.read(3, OTHER_DISK) == world.image(3, OTHER_DISK)


def test_a_new_disk_beside_an_old_one(world):
    world.sync({spec(): {0: grain_bytes(1)}})
    world.sync({spec(kind=DELTA): {1: grain_bytes(2)}, spec(OTHER_DISK): {2: grain_bytes(3)}}, DELTA)

    assert world.read(2) == world.image(2)
    assert world.read(2, OTHER_DISK) == world.image(2, OTHER_DISK)


def test_a_compare_without_a_base_is_a_full_one(world):
    world.sync({spec(kind=COMPARE): {0: grain_bytes(1)}}, COMPARE)

    assert world.vault.point(TENANT, REPLICA, 1).disks[0].base_point is None
    assert world.read(1) == world.image(1)


def test_a_full_point_forgets_what_was_below(world):
    chain_of_three(world)
    world.sync({spec(): {9: grain_bytes(9)}})

    assert world.read(4) == world.image(4)
    assert set(effective(world)) == {9}


@pytest.mark.parametrize("rest", [0, 512, GRAIN_BYTES - 512])
def test_a_partial_last_grain_and_a_disk_that_grows(world, rest):
    size = 3 * GRAIN_BYTES + rest
    last = size // GRAIN_BYTES if rest else 2
    world.sync({spec(capacity_bytes=size): {last: grain_bytes(1, random_bytes=True)}})
    grown = size + 2 * GRAIN_BYTES + 512
    world.sync({spec(capacity_bytes=grown, kind=COMPARE): {last + 1: grain_bytes(2)}}, COMPARE)

    assert len(world.read(1)) == size
    assert world.read(1) == world.image(1)
    assert world.read(2) == world.image(2)


def test_two_disks_written_by_two_threads(world):
    changes = {
        spec(key): {grain: grain_bytes(key * 100 + grain, random_bytes=grain % 2 == 0) for grain in range(60)}
        for key in (DISK, OTHER_DISK)
    }
    staged = world.begin(changes)
    threads = [threading.Thread(target=send, args=(staged.disk(disk.key), changes[disk], 5)) for disk in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = staged.commit()
    world.note(done.number, changes)

    assert world.read(1) == world.image(1)
    assert world.read(1, OTHER_DISK) == world.image(1, OTHER_DISK)


def test_nothing_shows_before_the_commit_or_after_a_discard(world):
    staged = world.begin([spec()])
    send(staged.disk(DISK), {0: grain_bytes(1)})
    staged.disk(DISK).sync()
    staged.disk(DISK).finish()
    staged.disk(DISK).finish()

    assert world.vault.points(TENANT, REPLICA) == ()
    staged.discard()
    staged.discard()
    assert world.vault.points(TENANT, REPLICA) == ()
    assert world.store.names(f"tenants/{TENANT}/replicas/{REPLICA}/staging") == ()
    for call in (lambda: staged.disk(DISK), staged.commit):
        with pytest.raises(FencedError):
            call()


def test_a_discard_ends_a_writer(world):
    staged = world.begin([spec()])
    writer = staged.disk(DISK)
    staged.discard()

    with pytest.raises(StoreError, match="takes no more data"):
        send(writer, {0: grain_bytes(1)})


def test_a_discard_after_the_commit_keeps_the_point(world):
    world.sync({spec(): {0: grain_bytes(1)}})

    assert world.read(1) == world.image(1)


def test_every_disk_must_be_sent(world):
    staged = world.begin([spec(), spec(OTHER_DISK)])
    staged.disk(DISK)

    with pytest.raises(PreconditionError, match="disk 2001 was not sent"):
        staged.commit()
    with pytest.raises(InvalidInputError):
        staged.disk(2002)


def test_one_of_two_syncs_commits(world):
    first, second = world.begin([spec()]), world.begin([spec()])
    first.disk(DISK)
    second.disk(DISK)
    first.commit()

    with pytest.raises(FencedError, match="committed by another sync"):
        second.commit()
    second.discard()
    assert world.vault.point_numbers(TENANT, REPLICA) == (1,)


@pytest.mark.parametrize("grains", [[3, 3], [3, 2], [64], [-1]], ids=["twice", "falling", "past the end", "negative"])
def test_grains_that_cannot_be_are_refused_and_nothing_of_the_batch_is_kept(world, grains):
    staged = world.begin([spec()])
    writer = staged.disk(DISK)
    writer.append([grain_record(1, grain_bytes(1))])
    with pytest.raises(ProtocolError):
        writer.append([grain_record(grain, grain_bytes(2)) for grain in grains])
    writer.append([grain_record(2, grain_bytes(3))])
    staged.commit()
    world.note(1, {spec(): {1: grain_bytes(1), 2: grain_bytes(3)}})

    assert world.read(1) == world.image(1)


def test_finished_is_finished(world):
    staged = world.begin([spec()])
    writer = staged.disk(DISK)
    with pytest.raises(ValueError):
        _ = writer.record
    writer.finish()

    with pytest.raises(StoreError, match="takes no more data"):
        writer.append([grain_record(1, grain_bytes(1))])
    with pytest.raises(StoreError, match="takes no more data"):
        writer.sync()


@pytest.mark.parametrize(
    "disks",
    [
        [],
        [spec(), spec()],
        [spec(capacity_bytes=0)],
        [spec(capacity_bytes=1000)],
        [spec(capacity_bytes=(62 << 40) + 512)],
        [spec(adapter='ide"')],
    ],
    ids=["none", "twice", "empty", "half a sector", "too large", "adapter"],
)
def test_headers_that_cannot_be(world, disks):
    with pytest.raises(InvalidInputError):
        world.begin(disks)


def test_a_plan_on_another_point_is_refused(world):
    world.sync({spec(): {}})
    world.model.clear()

    with pytest.raises(PreconditionError, match="planned on point 0, the newest is 1"):
        world.begin([spec(kind=DELTA)], DELTA)


def test_a_delta_needs_a_base_that_fits(world):
    with pytest.raises(PreconditionError, match="nothing to stand on"):
        world.begin([spec(kind=DELTA)], DELTA)
    world.sync({spec(): {}})
    for kind in (DELTA, COMPARE):
        with pytest.raises(PreconditionError, match="shrank"):
            world.begin([spec(kind=kind, capacity_bytes=1 << 20)], kind)
    with pytest.raises(PreconditionError, match="nothing to stand on"):
        world.begin([spec(kind=DELTA), spec(OTHER_DISK, kind=DELTA)], DELTA)


def test_nothing_is_accepted_unless_the_kek_is_active(world):
    kek_id = world.vault.require_key(TENANT)
    assert world.vault.require_key(TENANT) == kek_id
    world.sync({spec(): {}})

    for state in (KekState.DEACTIVATED, KekState.COMPROMISED, KekState.DESTROYED, KekState.PRE_ACTIVE):
        world.kms.set_state(kek_id, state)
        with pytest.raises(KeyNotUsableError, match=state.value):
            world.begin([spec()])
        with pytest.raises(KeyNotUsableError):
            world.vault.require_key(TENANT)
    assert world.store.names(f"tenants/{TENANT}/replicas/{REPLICA}/staging") == ()


def test_nothing_is_accepted_while_the_kms_is_away(world):
    class Away:
        def state(self, _kek_id):
            raise KmsUnavailableError("the KMS does not answer", subject="kms", next_step="start it")

    world.vault.require_key(TENANT)
    away = Vault(world.store, Away(), ManualClock())
    with pytest.raises(KmsUnavailableError):
        away.syncs.begin(TENANT, REPLICA, new_sync_id(), None)


def test_tenants_share_no_kek(world):
    assert world.vault.require_key(TENANT) != world.vault.require_key(TenantId("other"))


def test_a_kek_is_made_once_by_many_threads(world):
    made = []
    threads = [threading.Thread(target=lambda: made.append(world.vault.require_key(TENANT))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == 1


def test_wrapped_keys_do_not_open_for_another_disk(world):
    world.sync({spec(): {0: grain_bytes(1)}, spec(OTHER_DISK): {}})
    path = f"tenants/{TENANT}/replicas/{REPLICA}/replica.json"
    members = selfcheck.decode(bytes(world.store.content(path)))
    first, second = members["keys"]
    first["disk"], second["disk"] = second["disk"], first["disk"]
    world.store.content(path)[:] = selfcheck.encode(members)

    with pytest.raises(KeyNotUsableError):
        world.read(1)


def test_nothing_is_built_on_a_record_that_is_not_authentic(world):
    world.sync({spec(): {0: grain_bytes(1)}})
    path = f"tenants/{TENANT}/replicas/{REPLICA}/points/000001/point.json"
    members = selfcheck.decode(bytes(world.store.content(path)))
    members["record"]["disks"][0]["change_id"] = "52 6f 1e 64/99"
    world.store.content(path)[:] = selfcheck.encode(members)

    assert world.vault.newest(TENANT, REPLICA).disks[0].spec.change_id.endswith("99")
    with pytest.raises(DamagedError, match="not authentic"):
        world.begin([spec(kind=DELTA)], DELTA)
    with pytest.raises(DamagedError, match="not authentic"):
        world.read(1)


def test_what_is_not_there(world):
    world.sync({spec(): {}})

    with pytest.raises(NotFoundError, match="no point 2"):
        world.vault.point(TENANT, REPLICA, 2)
    with pytest.raises(NotFoundError, match="no disk 2001"):
        world.vault.view(TENANT, REPLICA, OTHER_DISK, 1)


def test_views_read_ranges(world):
    chain_of_three(world)
    with world.vault.view(TENANT, REPLICA, DISK, 3) as view:
        assert view.read(5, 2) == [None, grain_bytes(4)]
        assert view.read(6, 1) == [grain_bytes(4)]
        assert view.read(7, 2) == [None, None]
        assert view.read(64, 0) == []
        for first, count in [(64, 1), (-1, 1), (0, 65)]:
            with pytest.raises(ValueError):
                view.read(first, count)


def test_sweep_removes_what_is_not_kept(world):
    kept, left = new_sync_id(), new_sync_id()
    world.begin([spec()], sync=kept).disk(DISK)
    world.begin([spec()], sync=left).disk(DISK)

    assert world.vault.syncs.sweep(TENANT, REPLICA, {kept}) == (left,)
    assert world.vault.syncs.sweep(TENANT, REPLICA, {kept}) == ()
    assert world.store.names(f"tenants/{TENANT}/replicas/{REPLICA}/staging") == (kept,)


def test_a_given_up_sync_leaves_nothing_that_fits(world):
    """The same point number is sealed twice under the same key: files of the first sync do not pass as the second's."""
    world.sync({spec(): {0: grain_bytes(1)}})
    staged = world.begin([spec(kind=DELTA)], DELTA, SyncId("00000000-0000-4000-8000-00000000000a"))
    send(staged.disk(DISK), {0: grain_bytes(2)})
    staged.disk(DISK).finish()
    folder = f"tenants/{TENANT}/replicas/{REPLICA}"
    old = f"{folder}/staging/00000000-0000-4000-8000-00000000000a"
    stolen = {name: bytes(world.store.content(f"{old}/{name}")) for name in world.store.names(old)}
    staged.discard()
    world.sync({spec(kind=DELTA): {0: grain_bytes(3)}}, DELTA)
    good = {name: bytes(world.store.content(f"{folder}/points/000002/{name}")) for name in stolen}

    for names in (["disk-2000.vmdk"], ["disk-2000.manifest"], sorted(stolen)):
        for name, content in good.items():
            world.store.content(f"{folder}/points/000002/{name}")[:] = stolen[name] if name in names else content
        with pytest.raises(DamagedError):
            world.read(2)
        assert world.vault.verify(TENANT, REPLICA, with_key=True).damaged


def test_foreign_things_in_the_store_are_not_ours(world):
    world.sync({spec(): {}})
    world.store.make_folder("tenants/UPPER")
    world.store.make_folder(f"tenants/{TENANT}/replicas/not-a-uuid")
    world.store.make_folder(f"tenants/{TENANT}/replicas/{REPLICA}/points/lost+found")
    world.store.make_folder(f"tenants/{TENANT}/replicas/{REPLICA}/points/000000")

    assert world.vault.tenants() == (TENANT,)
    assert world.vault.replicas(TENANT) == (REPLICA,)
    assert world.vault.point_numbers(TENANT, REPLICA) == (1,)


class Counting(MemoryStore):
    """Knows how many files are open for reading, and the most that ever were."""

    def __init__(self):
        super().__init__()
        self.open_now = self.open_most = 0

    def open(self, path):
        file = super().open(path)
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        file.close = self.closed
        return file

    def closed(self):
        self.open_now -= 1


def test_a_long_chain_needs_few_open_files():
    world = World(Counting())
    world.sync({spec(): {grain: grain_bytes(grain) for grain in range(64)}})
    for number in range(150):
        world.sync({spec(kind=DELTA): {number % 64: grain_bytes(1000 + number)}}, DELTA)

    assert world.read(151) == world.image(151)
    assert 100 < world.store.open_most <= 130
    assert world.store.open_now == 0
