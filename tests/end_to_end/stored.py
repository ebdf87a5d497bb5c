"""A replica of some points at rest, to be altered and looked at."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from target_appliance.recovery.findings import Finding
from tests.end_to_end.inside import Inside, inside
from tests.end_to_end.pair import Pair
from tests.end_to_end.random_guest import RandomGuest, seed
from tests.lab.site import Lab

VM = "web01"
KEYS = (2000, 2001)
POINTS = 4


@dataclass(frozen=True)
class Target:
    """A stored file, and what a finding about it must say."""

    path: Path
    point: int | None
    disk: int | None

    def is_named_by(self, finding: Finding, replica: str, first: int, last: int) -> bool:
        """Whether a finding says where the damage is: the range covers some of the bytes that were altered."""
        return (
            (finding.replica, finding.file, finding.point, finding.disk)
            == (replica, self.path.name, self.point, self.disk)
            and finding.first is not None
            and finding.last is not None
            and finding.first <= last
            and first <= finding.last
        )


@dataclass(frozen=True)
class Stored:
    """A replica of some points, at rest."""

    pair: Pair
    vault: Inside
    replica: str
    rng: random.Random

    @property
    def folder(self) -> Path:
        """The replica's."""
        return self.pair.point_folder(self.replica, 1).parents[1]

    def targets(self) -> list[Target]:
        """Every file that a verify of the replica answers for."""
        found = [Target(self.folder.parents[1] / "tenant.json", None, None)]
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".lock"):
            point = int(path.parent.name) if path.parent.name.isdigit() else None
            disk = int(path.stem.removeprefix("disk-")) if path.stem.startswith("disk-") else None
            found.append(Target(path, point, disk))
        return found

    def found(self, *, with_key: bool) -> tuple[Finding, ...]:
        """What verify finds."""
        return self.vault.verify(self.replica, with_key=with_key).findings

    def assert_clean(self) -> None:
        """No false alarm."""
        for with_key in (True, False):
            assert self.found(with_key=with_key) == ()

    def assert_named(self, target: Target, first: int, last: int) -> None:
        """Both ways of looking name the place, and every point that suffers."""
        for with_key in (True, False):
            found = self.found(with_key=with_key)
            named = [finding for finding in found if target.is_named_by(finding, self.replica, first, last)]
            assert named, (target, first, last, with_key, [str(finding) for finding in found])
            suffering = range(target.point or 1, POINTS + 1)
            assert all(set(finding.affects) == set(suffering) for finding in named), (target, named)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """One for all tests, which put back what they alter."""
    number = seed()
    with Lab(tmp_path_factory.mktemp("damage"), disk_mib=8) as lab, Pair(lab, kms="embedded") as pair:
        guest = RandomGuest(number, [lab.guest(VM, key) for key in KEYS])
        for point in range(1, POINTS + 1):
            report = pair.sync(VM)
            assert report["point"] == point
            guest.work(12)
        with inside(pair) as vault:
            yield Stored(pair, vault, report["replica"], random.Random(number))


@contextlib.contextmanager
def altered(path: Path) -> Iterator[None]:
    """Whatever the block does to a file is undone at its end."""
    content, mode = path.read_bytes(), path.stat().st_mode
    path.chmod(0o600)
    try:
        yield
    finally:
        path.write_bytes(content)
        path.chmod(mode)


def flip(path: Path, offset: int, mask: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (before,) = file.read(1)
        file.seek(offset)
        file.write(bytes([before ^ mask]))
