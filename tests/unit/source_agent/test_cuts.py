"""Whole syncs over a link that breaks: every kind ends bit-identical, and what cannot be mended leaves nothing."""

import dataclasses
import os
import random

import pytest

from common.errors import TargetUnavailableError
from source_agent.disk_read.memory import MemoryReader
from source_agent.plan import Kind
from source_agent.stream.channel import Target
from tests.end_to_end.cutter import Cutter
from tests.unit.source_agent.world import AGENT, SIZES, World

EVERY = 300_000


class Cut:
    """The world's agent behind a cutter."""

    def __init__(self, world: World, link: Cutter) -> None:
        self.world, self.link = world, link
        old = world.agent.target
        self.target = Target(f"127.0.0.1:{link.port}", old._bearer)
        self.agent = dataclasses.replace(world.agent, target=self.target, unreachable_seconds=30.0)

    def noise(self) -> None:
        for key, size in zip((2000, 2001), SIZES, strict=True):
            self.world.write(key, 0, random.Random(key).randbytes(size))


@pytest.fixture
def cut(world):
    with Cutter(int(world.server.address.rpartition(":")[2]), EVERY) as link:
        made = Cut(world, link)
        try:
            yield made
        finally:
            made.target.close()


@pytest.mark.parametrize("kind", [Kind.FULL, Kind.COMPARE, None])
def test_every_kind_survives_a_link_that_dies_again_and_again(cut, kind):
    world = cut.world
    cut.noise()
    cut.link._left = 1 << 40
    world.sync(cut.agent)
    for key, size in zip((2000, 2001), SIZES, strict=True):
        world.write(key, size // 2 // 512 * 512, os.urandom(size // 3 // 512 * 512))
    cut.link._left = EVERY
    report = world.sync(cut.agent, requested=kind)
    assert cut.link.cuts >= 6
    assert report.kind == (kind.value if kind else "delta")
    world.assert_equal(2)
    assert world.snapshots() == []


@pytest.mark.parametrize("done", [False, True], ids=["request lost", "answer lost"])
def test_a_commit_that_is_cut(cut, done):
    cut.noise()
    cut.link._left = 1 << 40
    commit = cut.target.commit
    calls = []

    def lossy(sync):
        calls.append(sync)
        if len(calls) > 1:
            return commit(sync)
        if done:
            commit(sync)
        raise TargetUnavailableError("cut", subject="target", next_step="-")

    cut.target.commit = lossy
    report = cut.world.sync(cut.agent)
    assert report.point == 1
    assert len(calls) == (1 if done else 2)
    assert report.stored_bytes > sum(SIZES) // 2
    cut.world.assert_equal(1)


def test_a_target_that_stays_away_costs_no_snapshot(cut, world, capsys):
    class Falling(MemoryReader):
        def open(self, snapshot, disk):
            cut.link.fall()
            return super().open(snapshot, disk)

    agent = dataclasses.replace(cut.agent, reader=Falling(world.site), unreachable_seconds=0.5)
    with pytest.raises(TargetUnavailableError, match=r"nothing reached the target .* does not fill the datastore"):
        world.sync(agent)
    assert world.snapshots() == []
    assert agent.agent_id == AGENT
    cut.link.rise()
    cut.target.reconnect()
    cut.noise()
    assert world.sync(cut.agent).point == 1
    world.assert_equal(1)
