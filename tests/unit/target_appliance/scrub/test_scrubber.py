"""What the scrub says of points: all rot is found, none is invented, and a cut costs little."""

import random
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from common.errors import KmsUnavailableError, StoreError
from target_appliance.recovery import names
from target_appliance.recovery.vault import Vault
from target_appliance.scrub.choice import Due
from target_appliance.scrub.scrubber import Paused
from tests.fakes.replica import REPLICA, TENANT
from tests.faults.store import FaultStore, Trap
from tests.unit.target_appliance.scrub.conftest import ALL

GOOD = dict.fromkeys((1, 2, 3, 4), "good")


def files(store):
    """Every file of every point, with its path."""
    for number in (1, 2, 3, 4):
        folder = names.point_folder(TENANT, REPLICA, number)
        for name in store.names(folder):
            yield number, f"{folder}/{name}"


def content(store, path):
    with store.open(path) as file:
        return file.read_at(0, file.size)


def put(store, path, data):
    store.remove_tree(path)
    with store.create(path) as file:
        file.append([data])


@contextmanager
def flipped(store, path, place, bit=1):
    whole = content(store, path)
    put(store, path, whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    yield
    put(store, path, whole)


def test_a_thousand_flipped_bytes_are_all_found_and_only_their_points_named(scrubbed):
    rng = random.Random(4)
    store = scrubbed.world.store
    held = [(number, path, len(content(store, path))) for number, path in files(store)]
    for _ in range(1000):
        # Every file as often as any other: most bytes are in few of them.
        number, path, size = rng.choice(held)
        with flipped(store, path, rng.randrange(size), 1 << rng.randrange(8)):
            assert scrubbed.scrubber().look(scrubbed.key(number)).state == "corrupt", path

    assert scrubbed.round() == GOOD
    found = [(one.row.number, one.row.state, one.affects) for one in scrubbed.told]
    assert [(number, state) for number, state, _ in found[4:]] == [(number, "good") for number in (1, 2, 3, 4)]
    assert all(number in affects for number, _, affects in found[:4])


def test_a_hundred_clean_rounds_alarm_nobody(scrubbed):
    for number in range(100):
        assert scrubbed.round(with_key=number % 5 == 0) == GOOD
        scrubbed.world.clock.advance(60)

    assert scrubbed.told == []


def test_points_that_stand_on_a_bad_one_are_named(scrubbed):
    store = scrubbed.world.store
    first = names.point_folder(TENANT, REPLICA, 1)
    for file in ("disk-2000.vmdk", "disk-2001.vmdk"):
        with flipped(store, f"{first}/{file}", 600):
            scrubbed.round()
        scrubbed.round()

    bad = [one.affects for one in scrubbed.told if one.row.state == "corrupt"]
    assert bad == [(1, 2, 3, 4), (1, 2)]
    assert "disk-2000.vmdk" in scrubbed.told[0].row.what


def test_it_is_told_once_and_again_when_it_is_good(scrubbed):
    store = scrubbed.world.store
    with flipped(store, f"{names.point_folder(TENANT, REPLICA, 2)}/point.json", 30):
        for _ in range(3):
            assert scrubbed.round()[2] == "corrupt"
    scrubbed.round()

    assert [(one.before, one.row.state) for one in scrubbed.told] == [(None, "corrupt"), ("corrupt", "good")]


def test_a_missing_point_and_a_missing_file(scrubbed):
    store = scrubbed.world.store
    store.remove_tree(names.point_folder(TENANT, REPLICA, 4))
    store.remove_tree(f"{names.point_folder(TENANT, REPLICA, 2)}/disk-2001.manifest")

    assert scrubbed.round() == {1: "good", 2: "missing", 3: "good", 4: "missing"}


@pytest.mark.parametrize("only", ["open", "read_at", "names"])
def test_a_read_error_is_never_called_corrupt(scrubbed, only):
    for at in range(1, 60, 3):
        trap = Trap(at=at, only=(only,))
        store = FaultStore(scrubbed.world.store, trap)
        states = {"good"}
        for number in (1, 2, 3, 4):
            # What there should be at all cannot be asked for then: nothing is noted.
            with suppress(StoreError):
                states.add(scrubbed.scrubber(store=store).look(scrubbed.key(number)).state)
        assert states <= {"good", "unreachable"}, trap.calls[at - 1]

    assert not {one.row.state for one in scrubbed.told} & {"corrupt", "missing"}


def test_what_was_forged_shows_with_the_key(scrubbed):
    """A point put back from another sync agrees with itself."""
    store = scrubbed.world.store
    one, two = (f"{names.point_folder(TENANT, REPLICA, number)}/disk-2000" for number in (2, 4))
    for suffix in (".vmdk", ".manifest", ".digests"):
        assert content(store, one + suffix) != content(store, two + suffix)
        put(store, one + suffix, content(store, two + suffix))

    assert scrubbed.round(with_key=True)[2] == "corrupt"


def test_without_keys_stored_bytes_are_compared_all_the_same(scrubbed, monkeypatch):
    world = scrubbed.world
    world.vault = Vault(world.store, world.kms, world.clock)

    def unwrap(*_):
        raise KmsUnavailableError("the KMS does not answer", subject="kms", next_step="wait")

    monkeypatch.setattr(world.kms, "unwrap", unwrap)

    assert scrubbed.round(with_key=True) == GOOD
    assert {row.with_key for row in scrubbed.catalog.scrubs()} == {False}


@pytest.mark.parametrize("with_key", [False, True])
def test_a_look_that_is_cut_goes_on_where_it_was(scrubbed, with_key):
    whole = scrubbed.scrubber(with_key=with_key)
    whole.look(scrubbed.key(1))
    one_look, scrubbed.read = scrubbed.read, 0
    cuts = 0
    while True:
        scrubbed.world.clock.advance(1)
        budget = [(5 << 20) if with_key else (5 << 19)]  # more than one piece, less than all

        def pace(size, budget=budget):
            budget[0] -= size
            if budget[0] < 0:
                raise Paused

        try:
            row = scrubbed.scrubber(pace, with_key=with_key).look(scrubbed.key(1))
            break
        except Paused:
            cuts += 1
            assert cuts < 20
    assert (row.state, row.mark, row.with_key) == ("good", None, with_key)
    assert cuts >= 1
    assert scrubbed.read < one_look * 2 + (cuts << 21)


def test_what_was_found_before_a_cut_is_not_forgotten(scrubbed):
    store = scrubbed.world.store
    path = f"{names.point_folder(TENANT, REPLICA, 1)}/disk-2000.vmdk"
    with flipped(store, path, 100):
        with pytest.raises(Paused):
            scrubbed.scrubber(cut_after(4)).look(scrubbed.key(1))
        (row,) = scrubbed.catalog.scrubs()
        assert (row.state, row.so_far, row.mark is not None) == (None, "corrupt", True)
        assert scrubbed.scrubber().look(scrubbed.key(1)).state == "corrupt"
    assert scrubbed.scrubber().due(ALL)


def cut_after(pieces):
    count = [0]

    def pace(_size):
        count[0] += 1
        if count[0] == pieces:
            raise Paused

    return pace


def test_damage_before_a_cut_that_was_put_back_wakes_nobody(scrubbed):
    with (
        flipped(scrubbed.world.store, f"{names.point_folder(TENANT, REPLICA, 1)}/disk-2000.vmdk", 100),
        pytest.raises(Paused),
    ):
        scrubbed.scrubber(cut_after(4)).look(scrubbed.key(1))

    assert scrubbed.scrubber().look(scrubbed.key(1)).state == "good"
    assert scrubbed.told == []


@pytest.mark.parametrize("put_back", [False, True])
def test_a_second_look_that_is_cut_goes_on_as_the_second(scrubbed, put_back):
    """Cut every few pieces, it ends all the same, and says what it saw itself."""
    path = f"{names.point_folder(TENANT, REPLICA, 1)}/disk-2000.vmdk"
    looks = []
    with flipped(scrubbed.world.store, path, 100):
        while not (looks and looks[-1].again):
            with pytest.raises(Paused):
                scrubbed.scrubber(cut_after(8)).look(scrubbed.key(1))
            looks.append(scrubbed.catalog.scrubs()[0])
            assert len(looks) < 50
        assert scrubbed.told == []
        assert scrubbed.scrubber().due(Due(1e9, 1e9)) == (scrubbed.key(1),)
        if not put_back:
            assert scrubbed.scrubber().look(scrubbed.key(1)).state == "corrupt"
            assert [one.row.state for one in scrubbed.told] == ["corrupt"]
            assert not scrubbed.catalog.scrubs()[0].under_way
    if put_back:
        scrubbed.catalog.put_scrub(replace(looks[-1], so_far=None, mark=None))
        assert scrubbed.scrubber().look(scrubbed.key(1)).state == "good"
        assert scrubbed.told == []


def test_a_mark_that_does_not_come_is_not_believed(scrubbed):
    scrubbed.round()
    (row, *_) = scrubbed.catalog.scrubs()
    scrubbed.catalog.put_scrub(replace(row, so_far="good", mark="disk-9.vmdk", mark_offset=1 << 40))
    with flipped(scrubbed.world.store, f"{names.point_folder(TENANT, REPLICA, 1)}/disk-2000.vmdk", 100):
        assert scrubbed.scrubber().look(scrubbed.key(1)).state == "corrupt"


def test_a_lost_catalog_makes_everything_unseen_not_good(scrubbed):
    scrubbed.round()
    for row in scrubbed.catalog.scrubs():
        scrubbed.catalog.forget_scrub(row)

    assert len(scrubbed.scrubber().due(ALL)) == 4


def test_an_erased_tenant_leaves_no_row(scrubbed):
    scrubbed.round()
    scrubbed.catalog.forget_tenant(TENANT)

    assert scrubbed.catalog.scrubs() == ()
    assert scrubbed.scrubber().due(ALL) == ()
    assert scrubbed.scrubber().look(scrubbed.key(1)) is None
    assert scrubbed.catalog.scrubs() == ()
