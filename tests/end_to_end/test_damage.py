"""One altered byte anywhere in a stored file is found by verify, with the key and without, and named."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from target_appliance.recovery.findings import Kind
from tests.end_to_end.anatomy import parts
from tests.end_to_end.stored import Stored, Target, altered, flip, stored

__all__ = ["stored"]

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("uncovered")]

FLIPS_IN_EACH = 3
"""Of every file, beside those that are aimed at each kind of part."""
PART_KINDS = 15


def aims(stored: Stored) -> list[tuple[Target, str, int]]:
    """Where to flip: target, name of the part, offset."""
    chosen: list[tuple[Target, str, int]] = []
    kinds: dict[str, list[tuple[Target, str, int]]] = {}
    for target in stored.targets():
        size = target.path.stat().st_size
        places = [0, size - 1, *(stored.rng.randrange(size) for _ in range(FLIPS_IN_EACH))]
        chosen += [(target, "anywhere", place) for place in places]
        if target.path.suffix == ".vmdk":
            for part in parts(target.path):
                place = part.offset + stored.rng.randrange(part.length)
                kinds.setdefault(part.name, []).append((target, part.name, place))
    assert len(kinds) == PART_KINDS, sorted(kinds)
    for there in kinds.values():
        chosen += stored.rng.sample(there, min(4, len(there)))
    return chosen


def test_one_flipped_byte_anywhere(stored: Stored) -> None:
    stored.assert_clean()
    chosen = aims(stored)
    assert {target.path.name for target, _, _ in chosen} >= {
        "tenant.json", "replica.json", "point.json", "disk-2000.vmdk", "disk-2001.manifest", "disk-2001.digests",
    }  # fmt: skip
    for target, _part, offset in chosen:
        with altered(target.path):
            flip(target.path, offset, stored.rng.randrange(1, 256))
            stored.assert_named(target, offset, offset)
    print(f"{len(chosen)} flips in {len(stored.targets())} files")
    stored.assert_clean()


def _cut(path: Path, rng: random.Random) -> tuple[int, int]:
    size = path.stat().st_size
    keep = rng.randrange(size)
    with path.open("r+b") as file:
        file.truncate(keep)
    return keep, size


def _zero(path: Path, rng: random.Random) -> tuple[int, int]:
    data = bytearray(path.read_bytes())
    places = [place for place, byte in enumerate(data) if byte]
    first = rng.choice(places)
    length = min(512, len(data) - first)
    data[first : first + length] = bytes(length)
    path.write_bytes(data)
    return first, first + length - 1


def _lengthen(path: Path, rng: random.Random) -> tuple[int, int]:
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 2000)))
    return size - 1, path.stat().st_size


@pytest.mark.parametrize("how", [_cut, _zero, _lengthen])
def test_files_that_were_cut_zeroed_or_lengthened(
    stored: Stored, how: Callable[[Path, random.Random], tuple[int, int]]
) -> None:
    for target in stored.targets():
        with altered(target.path):
            first, last = how(target.path, stored.rng)
            stored.assert_named(target, 0 if target.path.suffix in (".json", ".digests") else first, last)
    stored.assert_clean()


def test_files_that_are_missing(stored: Stored) -> None:
    for target in stored.targets():
        with altered(target.path):
            target.path.unlink()
            for with_key in (True, False):
                found = stored.found(with_key=with_key)
                assert any(
                    (one.kind, one.file, one.point, one.disk)
                    == (Kind.MISSING, target.path.name, target.point, target.disk)
                    for one in found
                ), (target, with_key, [str(one) for one in found])
    stored.assert_clean()


def test_files_that_changed_places(stored: Stored) -> None:
    targets = stored.targets()
    by_point = {(one.path.name, one.point): one for one in targets}
    pairs = [(by_point[one.path.name, 2], by_point[one.path.name, 3]) for one in targets if one.point == 2] + [
        (by_point[f"disk-2000.{suffix}", 2], by_point[f"disk-2001.{suffix}", 2])
        for suffix in ("vmdk", "manifest", "digests")
    ]
    for one, other in pairs:
        with altered(one.path), altered(other.path):
            mine, yours = one.path.read_bytes(), other.path.read_bytes()
            one.path.write_bytes(yours)
            other.path.write_bytes(mine)
            for with_key in (True, False):
                found = stored.found(with_key=with_key)
                for target in (one, other):
                    assert any(
                        (finding.file, finding.point) == (target.path.name, target.point) for finding in found
                    ), (target, with_key, [str(finding) for finding in found])
    stored.assert_clean()
