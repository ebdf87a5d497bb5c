"""Older copies of the store, with and without the catalog of that day, put back under a running appliance.

The agent refuses to go on, by its bookmark, whatever the target's own checks say: an older copy is sound in itself.
"""

import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.errors import PreconditionError
from source_agent import bookmark
from target_appliance.store.memory import MemoryStore
from tests.end_to_end.random_guest import seed
from tests.fakes.served import served
from tests.unit.source_agent.world import AGENT, World

SYNCS = 8
COPIES = 100


@dataclass(frozen=True)
class Copy:
    """Store and catalog after a sync."""

    files: dict[tuple[str, ...], bytes]
    folders: frozenset[tuple[str, ...]]
    catalog: sqlite3.Connection
    point: int
    record_hash: bytes


class Site:
    """A pair whose target's disks are in an enemy's hands."""

    def __init__(self, world: World, catalog: Path, store: MemoryStore) -> None:
        self.world = world
        self.store = store
        self._catalog = catalog
        self.copies: list[Copy] = []

    def keep(self) -> None:
        """Take a copy."""
        copied = sqlite3.connect(":memory:")
        with contextlib.closing(sqlite3.connect(self._catalog)) as held:
            held.backup(copied)
        files = {path: bytes(content) for path, content in self.store._files.items()}
        newest = self.world.server.behind.vault.newest("acme", self.replica)
        point, record_hash = (newest.number, newest.record_hash) if newest else (0, b"")
        self.copies.append(Copy(files, frozenset(self.store._folders), copied, point, record_hash))

    def put_back(self, copy: Copy, *, catalog: bool) -> None:
        self.store._files = {path: bytearray(content) for path, content in copy.files.items()}
        self.store._folders = set(copy.folders)
        if catalog:
            with contextlib.closing(sqlite3.connect(self._catalog)) as held:
                copy.catalog.backup(held)

    @property
    def replica(self) -> str:
        return self.world.vm.instance_uuid

    def told_by_target(self) -> bool:
        """Whether the target itself can tell: its catalog knows of points that are not there."""
        behind = self.world.server.behind
        if not behind.vault.point_numbers("acme", self.replica):
            return bool(behind.catalog.points("acme", self.replica))
        committed = [row.number for row in behind.catalog.points("acme", self.replica)]
        return bool(behind.vault.verify("acme", self.replica, with_key=True, committed=committed).findings)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    store = MemoryStore()
    with served(tmp_path, store=store) as server:
        world = World(tmp_path, server)
        made = Site(world, tmp_path / "catalog.sqlite", store)
        try:
            made.keep()
            for _ in range(SYNCS):
                world.scribble()
                world.sync()
                made.keep()
            yield made
        finally:
            for target in world.targets:
                target.close()
            for copy in made.copies:
                copy.catalog.close()


def test_a_hundred_older_copies(site: Site) -> None:
    rng = random.Random(seed())
    *older, newest = site.copies
    caught: Counter[str] = Counter()
    for _ in range(COPIES):
        copy, with_catalog = rng.choice(older), rng.random() < 0.5
        site.put_back(newest, catalog=True)
        site.put_back(copy, catalog=with_catalog)
        what = "store and catalog" if with_catalog else "store"
        with pytest.raises(PreconditionError) as refused:
            site.world.sync()
        # Both sides of the matter are named: what is shown, and what was committed.
        shown = f"point {copy.point} with record {copy.record_hash.hex()[:16]}" if copy.point else "no point at all"
        assert shown in refused.value.message
        committed = f"committed point {newest.point} with record {newest.record_hash.hex()[:16]}"
        assert committed in refused.value.message
        assert not site.world.snapshots()
        caught[f"{what}: source"] += 1
        by_target = site.told_by_target()
        caught[f"{what}: target too"] += by_target
        assert by_target is not with_catalog
    print(f"{COPIES} older copies: {dict(caught)}")
    assert caught["store: source"] + caught["store and catalog: source"] == COPIES

    site.put_back(newest, catalog=True)
    assert bookmark.load(site.world.agent.state_dir, site.replica).record_hash == newest.record_hash
    site.world.scribble()
    assert site.world.sync().kind == "delta"
    site.world.assert_equal(SYNCS + 1)


def test_another_history_of_the_same_length(site: Site) -> None:
    """An older copy on which the enemy, with a certificate of the tenant's, had syncs until the number was the same."""
    *_, before, newest = site.copies
    site.put_back(before, catalog=True)
    accomplice = site.world.make_agent(AGENT.replace("a", "c"), site.world.agent.state_dir / "accomplice")
    site.world.sync(accomplice)
    assert site.world.server.behind.vault.newest("acme", site.replica).number == newest.point
    with pytest.raises(PreconditionError, match="rolled back or exchanged"):
        site.world.sync()
