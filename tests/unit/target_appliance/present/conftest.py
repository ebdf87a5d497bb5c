"""A replica of two disks, shown at a socket in this process."""

from contextlib import contextmanager

import pytest

from common.clock import SystemClock
from common.grain import GRAIN_BYTES
from common.ids import PointNumber
from target_appliance.present.callers import Local, Shown
from target_appliance.present.listen import unix_socket
from target_appliance.present.live import live
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from tests.fakes.nbd_client import NbdClient
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, spec

SIZE = 40 * GRAIN_BYTES + 3 * 512
OTHER_SIZE = 5 * 512
HELD = (0, 1, 2, 17, 39, 40)


@pytest.fixture(scope="package")
def world():
    world = World()
    grains = {grain: grain_bytes(grain, random_bytes=grain % 2) for grain in HELD}
    world.sync({spec(capacity_bytes=SIZE): grains, spec(OTHER_DISK, OTHER_SIZE): {0: grain_bytes(7)}})
    world.sync({spec(capacity_bytes=SIZE, kind=SyncKind.DELTA): {2: None, 5: grain_bytes(8)}}, SyncKind.DELTA)
    return world


class View:
    """A live view under test."""

    def __init__(self, live, path):
        self.clients = live.clients
        self.disks = {disk.name: disk for disk in live.disks}
        self.path = str(path)

    def client(self, **options):
        return NbdClient(self.path, **options)

    def uri(self, name=""):
        return f"nbd+unix:///{name}?socket={self.path}"


@contextmanager
def shown(world, path, *, point=1, disks=(DISK, OTHER_DISK), bounds=None, clock=None):
    """``vault`` of ``world`` at a socket."""
    clock = clock or SystemClock()
    at = Shown(TENANT, REPLICA, PointNumber(point))
    with unix_socket(path) as listener, live(world.vault, at, disks, listener, Local(), clock, bounds) as view:
        yield View(view, path)


@pytest.fixture
def view(world, tmp_path):
    with shown(world, tmp_path / "s") as view:
        yield view


def fresh_vault(world):
    """The same store, read by a vault that has kept nothing."""
    return Vault(world.store, world.kms, world.clock)
