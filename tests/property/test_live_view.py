"""Random chains: a live view reads what an export of the point writes, wherever it is read, and tells holes truly."""

import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import SystemClock
from target_appliance.present.callers import Local, Shown
from target_appliance.present.listen import unix_socket
from target_appliance.present.live import live
from target_appliance.recovery.export.forms import Form
from tests.fakes.nbd_client import DF, STATUS, NbdClient
from tests.fakes.replica import REPLICA, TENANT, World
from tests.property.test_chains import SIZES, STEP, build

READS = 20


@settings(max_examples=200)
@given(SIZES, st.lists(STEP, max_size=6), st.integers(0, 1 << 32))
def test_random_reads_equal_the_export(size, steps, seed):
    """Disks grow, are left out of points, hold zeros, and end in the middle of a grain."""
    rng, world = random.Random(seed), World()
    build(world, size, steps)
    point = rng.choice(list(world.model))
    disks = tuple(world.model[point])
    shown = Shown(TENANT, REPLICA, point)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with unix_socket(folder / "s") as listener, live(world.vault, shown, disks, listener, Local(), SystemClock()):
            for disk in disks:
                image = folder / f"{disk}.raw"
                world.vault.export(TENANT, REPLICA, disk, point, form=Form.RAW, path=image)
                with NbdClient(str(folder / "s")) as client:
                    check(client, f"disk-{disk}", image.read_bytes(), rng)


def check(client, name, image, rng):
    """Reads at random, some of them one after the other; and every byte that is told to be zeros is."""
    assert client.go(name, structured=rng.random() < 0.8) == len(image)
    offset = 0
    for _ in range(READS):
        offset = offset if rng.random() < 0.5 and offset < len(image) else rng.randrange(len(image))
        length = min(rng.choice((1, 512, 4096, 70_000, 1 << 20)), len(image) - offset)
        flags = DF if client.structured and rng.random() < 0.2 else 0
        assert client.read(offset, length, flags) == image[offset : offset + length]
        offset += length
    if client.structured:
        check_holes(client, image)


def check_holes(client, image):
    at = 0
    while at < len(image):
        for length, state in client.ask(STATUS, at, len(image) - at):
            assert state in {0, 3}
            if state:
                assert not image[at : at + length].strip(b"\0")
            at += length
    assert at == len(image)
