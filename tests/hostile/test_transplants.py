"""Stored things in the place of others: another offset, point, disk, replica or tenant. All are caught.

Everything is moved twice: as it is, and with all that needs no key made to fit its new place, as who can write to the
store would.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from blake3 import blake3

from common.errors import KeysapartError
from target_appliance.recovery.digests import list_header
from target_appliance.recovery.types import SyncKind
from tests.end_to_end.random_guest import seed
from tests.hostile.shelf import ACME, DISKS, FOREIGN, GRAINS, OTHER, OWN, POINTS, RIVAL, Place, Shelf

EACH = 10
SUM_BYTES = 32

Move = Callable[[Shelf, Place, Place, bool], None]


def _grain(shelf: Shelf, one: Place, other: Place, fitted: bool) -> None:
    here, there = shelf.payload(one), shelf.payload(other)
    mine, yours = shelf.get(one.file("vmdk"))[here], shelf.get(other.file("vmdk"))[there]
    assert len(mine) == len(yours)
    shelf.store.content(one.file("vmdk"))[here] = yours
    shelf.store.content(other.file("vmdk"))[there] = mine
    _fit(shelf, one, other, fitted)


def _file(suffix: str) -> Move:
    def move(shelf: Shelf, one: Place, other: Place, fitted: bool) -> None:
        shelf.swap(one.file(suffix), other.file(suffix))
        _fit(shelf, one, other, fitted)

    return move


def _digest_list(shelf: Shelf, one: Place, other: Place, fitted: bool) -> None:
    shelf.swap(one.file("digests"), other.file("digests"))
    for place in (one, other) if fitted else ():
        header = list_header(place.replica, place.disk, place.point)
        content = header + shelf.get(place.file("digests"))[len(header) : -SUM_BYTES]
        shelf.put(place.file("digests"), content + blake3(content).digest())


def _fit(shelf: Shelf, one: Place, other: Place, fitted: bool) -> None:
    if fitted:
        shelf.fit(one)
        shelf.fit(other)


def _wrapped_key(shelf: Shelf, one: Place, other: Place, fitted: bool) -> None:
    """The wrapped DEK: with the file's names as they are, or the entry alone."""
    here, there = (f"{place.home}/replica.json" for place in (one, other))
    if not fitted and here != there:
        shelf.swap(here, there)
        return
    mine = shelf.members(here)
    yours = mine if here == there else shelf.members(there)
    a, b = _entry(mine, one), _entry(yours, other)
    before = dict(a)
    for entry, source in ((a, dict(b)), (b, before)):
        entry.update({name: value for name, value in source.items() if name not in ("disk", "epoch")})
    shelf.write_members(here, mine)
    shelf.write_members(there, yours)


def _entry(members: dict, place: Place) -> dict:
    (found,) = (entry for entry in members["keys"] if entry["disk"] == place.disk)
    return found


def _record(shelf: Shelf, one: Place, other: Place, fitted: bool) -> None:
    here, there = (f"{place.folder}/point.json" for place in (one, other))
    shelf.swap(here, there)
    if fitted:
        for path, place in ((here, one), (there, other)):
            members = shelf.members(path)
            members["record"] |= {"tenant": place.tenant, "replica": place.replica, "point": place.point}
            shelf.write_members(path, members)


def _vouched(shelf: Shelf, one: Place, other: Place, fitted: bool) -> None:
    """Of the record only what vouches for it, or what it says of the disk."""
    here, there = (f"{place.folder}/point.json" for place in (one, other))
    mine = shelf.members(here)
    yours = mine if here == there else shelf.members(there)
    if fitted:
        a, b = _disk(mine, one), _disk(yours, other)
        a["manifest_root"], b["manifest_root"] = b["manifest_root"], a["manifest_root"]
    else:
        a, b = mine["macs"], yours["macs"]
        a[str(one.disk)], b[str(other.disk)] = b[str(other.disk)], a[str(one.disk)]
    shelf.write_members(here, mine)
    shelf.write_members(there, yours)


def _disk(members: dict, place: Place) -> dict:
    (found,) = (disk for disk in members["record"]["disks"] if disk["key"] == place.disk)
    return found


def _point(shelf: Shelf, one: Place, other: Place, fitted: bool) -> None:
    for disk in DISKS:
        here, there = one._replace(disk=disk), other._replace(disk=disk)
        for name in ("vmdk", "manifest", "digests"):
            shelf.swap(here.file(name), there.file(name))
        _fit(shelf, here, there, fitted)
    _record(shelf, one, other, fitted)


THINGS: dict[str, tuple[Move, tuple[str, ...]]] = {
    "grain": (_grain, ("offset", "point", "disk", "replica", "tenant")),
    "VMDK": (_file("vmdk"), ("point", "disk", "replica", "tenant")),
    "manifest": (_file("manifest"), ("point", "disk", "replica", "tenant")),
    "digest list": (_digest_list, ("point", "disk", "replica", "tenant")),
    "wrapped key": (_wrapped_key, ("disk", "replica", "tenant")),
    "point record": (_record, ("point", "replica", "tenant")),
    "MAC or root": (_vouched, ("point", "disk", "replica", "tenant")),
    "whole point": (_point, ("point", "replica", "tenant")),
}
PAIRS = [(thing, between) for thing, (_, kinds) in THINGS.items() for between in kinds]


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    made = Shelf()
    made.fill(random.Random(seed()))
    return made


@pytest.fixture(scope="module")
def table() -> Iterator[dict[tuple[str, str], Counter[str]]]:
    caught: dict[tuple[str, str], Counter[str]] = {}
    yield caught
    print(f"\n{'what':12} {'between':8} {'keyless':>8} {'key':>8} {'read':>8} {'begin':>8} {'of':>8}")
    for (thing, between), by in caught.items():
        counts = " ".join(f"{by[who]:8}" for who in ("keyless", "key", "read", "begin", "all"))
        print(f"{thing:12} {between:8} {counts}")


def test_nothing_is_found_where_nothing_was_moved(shelf: Shelf) -> None:
    shelf.put_back()
    for tenant, replica in ((ACME, OWN), (ACME, OTHER), (RIVAL, FOREIGN)):
        assert shelf.vault().verify(tenant, replica, with_key=True).findings == ()
        assert list(shelf.wrong_reads(tenant, replica)) == []
    shelf.begin(ACME, OWN, POINTS[-1], SyncKind.DELTA).discard()


@pytest.mark.parametrize("fitted", [False, True], ids=["as it is", "made to fit"])
@pytest.mark.parametrize(("thing", "between"), PAIRS)
def test_a_thing_in_another_place(
    shelf: Shelf, table: dict[tuple[str, str], Counter[str]], thing: str, between: str, fitted: bool
) -> None:
    rng = random.Random(f"{thing} {between} {seed()}")
    move, _ = THINGS[thing]
    for _ in range(EACH):
        shelf.put_back()
        one = Place(ACME, OWN, rng.choice(POINTS), rng.choice(DISKS), rng.choice(GRAINS))
        other = _elsewhere(rng, one, between)
        move(shelf, one, other, fitted)
        by = _caught(shelf)
        table.setdefault((thing, between), Counter()).update([*by, "all"])
        assert "key" in by, (one, other, by)
        assert "wrong bytes" not in by, (one, other)
    shelf.put_back()


def _elsewhere(rng: random.Random, one: Place, between: str) -> Place:
    match between:
        case "offset":
            return one._replace(grain=rng.choice([grain for grain in GRAINS if grain != one.grain]))
        case "point":
            return one._replace(point=rng.choice([point for point in POINTS if point != one.point]))
        case "disk":
            return one._replace(disk=next(disk for disk in DISKS if disk != one.disk))
        case "replica":
            return one._replace(replica=OTHER)
        case _:
            return one._replace(tenant=RIVAL, replica=FOREIGN)


def _caught(shelf: Shelf) -> set[str]:
    """Who notices."""
    by = set()
    for who, with_key in (("keyless", False), ("key", True)):
        try:
            if shelf.vault().verify(ACME, OWN, with_key=with_key).findings:
                by.add(who)
        except KeysapartError:
            by.add(who)
    by |= {"wrong bytes" if how == "WRONG BYTES" else "read" for _, _, how in shelf.wrong_reads(ACME, OWN)}
    try:
        shelf.begin(ACME, OWN, POINTS[-1], SyncKind.DELTA).discard()
    except KeysapartError:
        by.add("begin")
    return by
