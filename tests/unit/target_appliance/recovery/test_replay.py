"""An appliance that dies in mid-sync, and what the next one makes of what was staged: all that was durable, or none."""

import dataclasses
import itertools
import random

import pytest

from common.errors import NotFoundError
from common.ids import AgentId, SyncId
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.store.memory import MemoryStore
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, header, send, spec
from tests.faults.power import RecordingStore, replay, unsure

OWNER = AgentId("00000000-0000-4000-8000-00000000000a")
SYNC = SyncId("00000000-0000-4000-8000-00000000000d")
DELTA = SyncKind.DELTA
GRAINS = {grain: grain_bytes(grain, random_bytes=grain % 3 == 0) if grain % 5 else None for grain in range(1, 60, 2)}
OTHER = {0: grain_bytes(500), 7: grain_bytes(501)}


class Dead(World):
    """A world whose syncs belong to an agent, and whose appliance can be started anew."""

    def restart(self):
        self.vault = Vault(self.store, self.kms, self.clock)

    def begin(self, specs, kind=SyncKind.FULL, sync=None):
        return self.vault.syncs.begin(TENANT, REPLICA, sync or SYNC, header(specs, self.newest, kind), OWNER)

    def reopen(self):
        return self.vault.syncs.reopen(TENANT, REPLICA, SYNC)[0]


@pytest.fixture(params=["memory", "posix"])
def world(request, tmp_path):
    store = PosixStore(tmp_path) if request.param == "posix" else MemoryStore()
    yield Dead(store)
    if request.param == "posix":
        store.close()


SPECS = [spec(), spec(OTHER_DISK)]


def staged(world, durable=18, appended=24, *, step=3):
    """A sync that died when so many grains were durable, and more were appended."""
    sync = world.begin(SPECS)
    writer = sync.disk(DISK)
    places = sorted(GRAINS)
    for begin in range(0, durable, step):
        send(writer, {grain: GRAINS[grain] for grain in places[begin : min(begin + step, durable)]}, 2)
        writer.sync()
    send(writer, {grain: GRAINS[grain] for grain in places[durable:appended]}, 2)
    send(sync.disk(OTHER_DISK), OTHER, 1)
    return places[durable - 1] + 1 if durable else 0


def go_on(world, sync, watermarks):
    """Send what is missing, commit, and compare with the model."""
    found = {one.disk: one for one in sync.progress()}
    assert {disk: one.next_grain for disk, one in found.items()} == watermarks
    for disk, grains in ((DISK, GRAINS), (OTHER_DISK, OTHER)):
        writer = sync.disk(disk)
        send(writer, {grain: grains[grain] for grain in grains if grain >= found[disk].next_grain}, 5)
        writer.finish()
    done = sync.commit()
    sync.discard()
    world.note(done.number, {SPECS[0]: GRAINS, SPECS[1]: OTHER})
    check(world)


def check(world):
    for disk in (DISK, OTHER_DISK):
        assert world.differences(world.newest, disk) == []
    assert world.vault.verify(TENANT, REPLICA, with_key=True).findings == ()
    assert world.vault.syncs.sweep(TENANT, REPLICA) == ()
    assert sorted(world.store.names(f"tenants/{TENANT}/replicas/{REPLICA}/points/{world.newest:06d}")) == [
        *(f"disk-{disk}.{end}" for disk in (DISK, OTHER_DISK) for end in ("digests", "manifest", "vmdk")),
        "point.json",
    ]


@pytest.mark.parametrize(("durable", "appended"), [(0, 0), (0, 6), (1, 1), (18, 18), (18, 24), (30, 30)])
def test_all_that_was_durable_is_there(world, durable, appended):
    above = staged(world, durable, appended)
    world.restart()
    assert world.vault.syncs.parked(TENANT, REPLICA) == (SYNC,)
    assert world.vault.syncs.owner(TENANT, REPLICA, SYNC) == OWNER
    go_on(world, world.reopen(), {DISK: above, OTHER_DISK: 0})


def test_again_and_again(world):
    staged(world, 3, 6)
    rng = random.Random(3)
    places = sorted(GRAINS)
    at = 3
    while at < len(places):
        world.restart()
        sync = world.reopen()
        assert {one.disk: one.next_grain for one in sync.progress()}[DISK] == places[at - 1] + 1
        writer = sync.disk(DISK)
        until = min(at + rng.randrange(1, 6), len(places))
        send(writer, {grain: GRAINS[grain] for grain in places[at:until]}, 2)
        rng.choice((writer.sync, writer.rest))()
        send(writer, {grain: GRAINS[grain] for grain in places[until : until + 2]}, 2)
        at = until
    world.restart()
    go_on(world, world.reopen(), {DISK: places[-1] + 1, OTHER_DISK: 0})


def test_a_disk_that_was_complete_stays_so(world):
    sync = world.begin(SPECS)
    send(sync.disk(DISK), GRAINS)
    sync.disk(DISK).finish()
    world.restart()
    again = world.reopen()
    assert [one.finished for one in again.progress()] == [True, False]
    send(again.disk(OTHER_DISK), OTHER)
    again.disk(OTHER_DISK).finish()
    world.restart()
    last = world.reopen()
    assert [one.finished for one in last.progress()] == [True, True]
    done = last.commit()
    assert done.stored_bytes == world.vault.stored_bytes(TENANT, REPLICA, done.number)
    world.note(done.number, {SPECS[0]: GRAINS, SPECS[1]: OTHER})
    check(world)


def test_several_extents(world, monkeypatch):
    """Completed extents are read back whole, and a descriptor that stands beside them."""
    monkeypatch.setattr("target_appliance.recovery.disk_writer._EXTENT_GRAINS", 16)
    monkeypatch.setattr(
        "target_appliance.recovery.disk_writer.extent_capacities", lambda capacity: [1 << 20] * (capacity >> 20)
    )
    places = sorted(GRAINS)
    for durable in (5, 9, 17, 20):
        world.store.remove_tree(f"tenants/{TENANT}/replicas")
        above = staged(world, durable, durable + 8, step=1)
        world.restart()
        sync = world.reopen()
        assert sync.progress()[0].next_grain == above
        send(sync.disk(DISK), {grain: GRAINS[grain] for grain in places[durable:]}, 4)
        sync.disk(DISK).finish()
        fresh = [names for names in world.store.names(_folder()) if names.startswith("disk-2000")]
        assert len(fresh) == 7
        sync.discard()


def _folder(kind="staging"):
    return f"tenants/{TENANT}/replicas/{REPLICA}/{kind}/{SYNC}"


def _cut(store, path, size):
    del store.content(path)[size:]


def test_a_torn_journal_ends_where_it_is_torn():
    """At every kind of place in the last frame: in its head, in its body, in its tag; and with noise behind it."""
    world = Dead()
    staged(world)
    path = f"{_folder('resume')}/disk-{DISK}.journal"
    whole = bytes(world.store.content(path))
    frame = len(whole) // 6
    snapshot = _copied(world.store)
    for torn in (1, 4, 15, 16, 17, frame // 2, frame - 17, frame - 1, frame):
        for noise in (b"", bytes(torn), b"\xff" * torn):
            if noise == whole[len(whole) - torn :]:
                continue
            world.store = _copied(snapshot)
            world.restart()
            world.store.content(path)[len(whole) - torn :] = noise
            sync = world.reopen()
            assert sync.progress()[0].next_grain == sorted(GRAINS)[14] + 1
            go_on(world, sync, {DISK: sorted(GRAINS)[14] + 1, OTHER_DISK: 0})
            world.model.clear()


def _copied(store):
    copy = MemoryStore()
    copy._files = {path: bytearray(content) for path, content in store._files.items()}
    copy._folders = set(store._folders)
    return copy


def test_what_is_altered_is_refused_and_gone():
    """One bit anywhere in the data below the watermark, in what the sync said of itself, or a file cut short."""
    world = Dead()
    staged(world, 18, 18)
    snapshot = _copied(world.store)
    rng = random.Random(5)
    data, said = f"{_folder()}/disk-{DISK}.vmdk", f"{_folder('resume')}/sync.json"
    size = len(world.store.content(data))
    harms = [(data, at) for at in [512, 600, size - 1, *(rng.randrange(512, size) for _ in range(60))]]
    harms += [(said, rng.randrange(len(world.store.content(said)))) for _ in range(40)]
    for path, at in harms:
        world.store = _copied(snapshot)
        world.restart()
        world.store.content(path)[at] ^= 1 << rng.randrange(8)
        try:
            sync = world.reopen()
        except NotFoundError:
            continue
        raise AssertionError((path, at, sync))
    for length in (0, 511, size // 2, size - 1):
        world.store = _copied(snapshot)
        world.restart()
        _cut(world.store, data, length)
        with pytest.raises(NotFoundError):
            world.reopen()
        assert world.store.names(_folder().rpartition("/")[0]) == ()


@pytest.mark.parametrize("left_out", [None, "sync"])
def test_whatever_power_loss_takes_what_was_durable_is_there(left_out):
    """In every state that a loss of power may leave, the sync goes on from what was acknowledged, or further.

    Without the syncs of files some state is wrong, or this proves nothing.
    """
    world = Dead(RecordingStore())
    world.sync({spec(): {}, spec(OTHER_DISK): {}})
    base = _copied(world.store)
    world.store.steps.clear()
    sync = world.begin([spec(kind=DELTA), spec(OTHER_DISK, kind=DELTA)], DELTA)
    writer, durable, places = sync.disk(DISK), [], sorted(GRAINS)[:6]
    for begin in range(0, 6, 2):
        send(writer, {grain: GRAINS[grain] for grain in places[begin : begin + 2]}, 1)
        writer.sync()
        durable.append((len(world.store.steps), places[begin + 1] + 1))
    steps = [step for step in world.store.steps if step.name != left_out]
    if left_out:
        with pytest.raises((AssertionError, NotFoundError)):
            _check_states(world, base, steps, durable[-1:], len(steps))
    else:
        for length, _grain in durable:
            _check_states(world, base, steps, durable, length)


def _check_states(world, base, steps, durable, length):
    acknowledged = max(grain for at, grain in durable if at <= length or len(durable) == 1)
    losable = sorted(unsure(steps[:length]))
    for lost in [(), *((one,) for one in losable), *itertools.combinations(losable, 2), losable]:
        store = RecordingStore()
        store._files = {path: bytearray(content) for path, content in base._files.items()}
        store._folders = set(base._folders)
        replay(store, steps[:length], set(lost))
        found = Dead(store, world.kms, world.clock, model=dict(world.model))
        assert found.reopen().progress()[0].next_grain >= acknowledged, lost


def test_a_header_of_a_finished_file_is_put_back():
    """It died while it completed the disk: the header was rewritten already, the footer stands behind the watermark."""
    world = Dead()
    above = staged(world, 18, 18)
    data = world.store.content(f"{_folder()}/disk-{DISK}.vmdk")
    data[:512] = b"\x5a" * 512
    data += b"footer" * 100
    world.restart()
    go_on(world, world.reopen(), {DISK: above, OTHER_DISK: 0})


def test_another_newest_point_or_no_staging_is_refused():
    world = Dead()
    staged(world)
    other = SyncId("00000000-0000-4000-8000-00000000000e")
    world.sync({spec(): {0: grain_bytes(1)}}, sync=other)
    world.restart()
    with pytest.raises(NotFoundError, match="another point"):
        world.reopen()
    assert world.vault.syncs.parked(TENANT, REPLICA) == ()
    with pytest.raises(NotFoundError):
        world.reopen()


def test_a_sync_without_an_owner_cannot_go_on(world):
    plain = World(world.store, world.kms, world.clock)
    sync = plain.begin([spec()], sync=SYNC)
    send(sync.disk(DISK), {0: grain_bytes(1)})
    sync.disk(DISK).sync()
    assert plain.vault.syncs.parked(TENANT, REPLICA) == ()
    assert dataclasses.is_dataclass(plain)
