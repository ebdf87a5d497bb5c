"""A long chain under a guest that writes at random: every point reads back as the disks were when it was taken.

Four witnesses: our export, the second reader (from docs/format.md), qemu, and other projects' VMDK readers.
"""

import contextlib
import filecmp
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import pyvmdk
from dissect.hypervisor.disk.vmdk import VMDK

from tests.end_to_end import qemu
from tests.end_to_end.inside import Inside, inside
from tests.end_to_end.pair import Pair
from tests.end_to_end.random_guest import RandomGuest, seed
from tests.lab.guest import GuestDisk
from tests.lab.site import Lab
from tests.second_reader.reader import Replica

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("uncovered")]

DISK_MIB = 8
DELTAS = 20
OLDER = 3
BY_COMMAND = (1, 11, DELTAS + 1)
"""Points that are also exported by the command, right after their sync."""
VM = "web01"
KEYS = (2000, 2001)

Images = dict[int, dict[int, Path]]
"""By point, by disk."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab", disk_mib=DISK_MIB) as started:
        yield started


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    """A folder for images, which together take more room than anybody wants to keep."""
    folder = tmp_path / "images"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


class Witnesses:
    """Compares points with saved images, by our export and by the second reader."""

    def __init__(self, pair: Pair, vault: Inside, replica: str, folder: Path) -> None:
        self._vault = vault
        self._replica = replica
        self._folder = folder
        self._second = Replica(pair.point_folder(replica, 1).parents[1])
        self._deks = {key: vault.dek(replica, key) for key in KEYS}
        self.compared = 0

    def point_equals(self, point: int, saved: dict[int, Path]) -> None:
        """Every disk at the point is the saved image."""
        for key, image in saved.items():
            ours, theirs = self._folder / "ours.raw", self._folder / "theirs.raw"
            self._vault.export(self._replica, key, point, "raw", ours)
            self._second.write(point, key, self._deks[key], theirs)
            qemu.compare(image, ours, "raw")
            assert filecmp.cmp(image, theirs, shallow=False), (point, key)
            ours.unlink()
            theirs.unlink()
            self.compared += 1


@pytest.mark.timeout(900)
def test_twenty_deltas_under_a_random_guest(pair: Pair, images: Path) -> None:
    number = seed()
    lab, choice = pair.lab, random.Random(number)
    guest = RandomGuest(number, [lab.guest(VM, key) for key in KEYS])
    saved: Images = {1: lab.image(VM, images / "1")}
    first = pair.sync(VM)
    assert (first["point"], first["kind"]) == (1, "full")
    replica = first["replica"]
    with inside(pair) as vault:
        witnesses = Witnesses(pair, vault, replica, images)
        witnesses.point_equals(1, saved[1])
        for point in range(2, DELTAS + 2):
            guest.work(choice.randrange(4, 24))
            # Trackers differ in how finely they report; their areas need not begin where grains do.
            lab.control("tracking-unit", choice.choice((512, 4096, 65536, 1 << 20)))
            saved[point] = lab.image(VM, images / str(point))
            report = pair.sync(VM)
            assert (report["point"], report["kind"]) == (point, "delta")
            for one in [point, *choice.sample(range(1, point), min(OLDER, point - 1))]:
                witnesses.point_equals(one, saved[one])
            if point in BY_COMMAND:
                _compare_by_command(pair, replica, point, saved[point], images)
        for with_key in (True, False):
            found = vault.verify(replica, with_key=with_key)
            assert not found.findings
            assert len(found.points) == DELTAS + 1
    print(guest.done, f"{witnesses.compared} disks compared")
    _compare_forms(pair, replica, DELTAS + 1, saved[DELTAS + 1], images)
    _structure_is_read(pair, replica)


def _compare_by_command(pair: Pair, replica: str, point: int, saved: dict[int, Path], folder: Path) -> None:
    for key, image in saved.items():
        out = folder / f"command-{point}-{key}.raw"
        pair.done("export", replica, "--point", point, "--disk", key, "--format", "raw", "--out", out)
        qemu.compare(image, out, "raw")
        out.unlink()


def _compare_forms(pair: Pair, replica: str, point: int, saved: dict[int, Path], folder: Path) -> None:
    """One export in every form, through qemu and through two other VMDK readers."""
    for key, image in saved.items():
        for form in ("flat", "sparse", "stream"):
            out = folder / f"{form}-{key}.vmdk"
            pair.done("export", replica, "--point", point, "--disk", key, "--format", form, "--out", out)
            qemu.compare(image, out, "vmdk")
            if form != "flat":
                qemu.check(out)
            assert _by_libvmdk(out) == image.read_bytes(), out
            if key == KEYS[0]:
                # Dissect stumbles over a capacity that is no multiple of 8 KiB, as the second disk's.
                assert _by_dissect(out) == image.read_bytes(), out


def _by_libvmdk(path: Path) -> bytes:
    handle = pyvmdk.handle()
    handle.open(str(path))
    try:
        handle.open_extent_data_files()
        return bytes(handle.read_buffer_at_offset(handle.get_media_size(), 0))
    finally:
        handle.close()


def _by_dissect(path: Path) -> bytes:
    with path.open("rb") as file, contextlib.ExitStack() as opened:
        disk = VMDK(file)
        for one in disk.disks:
            opened.callback(one.fh.close)
        return bytes(disk.read(disk.size))


def _structure_is_read(pair: Pair, replica: str) -> None:
    """qemu's view of every VMDK of the chain."""
    for point in range(1, DELTAS + 2):
        for key in KEYS:
            path = pair.point_folder(replica, point) / f"disk-{key}.vmdk"
            assert len(qemu.info(path, chain=True)) == point
            qemu.check(path)
            assert {one["depth"] for one in qemu.mapped(path)} <= set(range(point))


def test_every_kind_of_sync_in_one_replica(embedded_pair: Pair, images: Path) -> None:
    """Full and delta, compare after tracking was reset and after a disk grew, a second chain on top."""
    pair, lab, number = embedded_pair, embedded_pair.lab, seed()
    guest = RandomGuest(number, [lab.guest(VM, key) for key in KEYS])
    saved: Images = {}

    def synced(point: int, kind: str, *words: str) -> str:
        guest.work(10)
        saved[point] = lab.image(VM, images / str(point))
        report = pair.sync(VM, *words)
        assert (report["point"], report["kind"]) == (point, kind)
        return str(report["replica"])

    replica = synced(1, "full")
    synced(2, "delta")
    lab.control("reset-cbt", VM)
    synced(3, "compare")
    synced(4, "delta")
    # Into the grain that was the last, partial one, and past it.
    lab.control("grow", VM, 2001, lab.guest(VM, 2001).size + (1 << 20) + 3 * 512)
    synced(5, "compare")
    synced(6, "delta")
    synced(7, "full", "--full")
    synced(8, "delta")
    with inside(pair) as vault:
        witnesses = Witnesses(pair, vault, replica, images)
        for point, image in saved.items():
            witnesses.point_equals(point, image)
        for with_key in (True, False):
            assert vault.verify(replica, with_key=with_key).findings == ()


class Frozen(GuestDisk):
    """What a snapshot that stands holds: all layers below the one that the guest writes to."""

    def _layers(self) -> list[str]:
        layers = super()._layers()
        assert len(layers) > 1, "no snapshot stands"
        return layers[:-1]


class Writing:
    """A guest that goes on writing until the block ends."""

    def __init__(self, guest: RandomGuest) -> None:
        self._guest = guest
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failure:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._guest.work(10)
        except BaseException as failure:  # noqa: BLE001 - raised again by the test's own thread
            self._failure = failure


def test_a_guest_that_writes_during_the_sync(embedded_pair: Pair, images: Path) -> None:
    pair, lab, number = embedded_pair, embedded_pair.lab, seed()
    disks = {key: lab.guest(VM, key) for key in KEYS}
    guest = RandomGuest(number, list(disks.values()))
    # Long enough that the frozen state can be copied before the snapshot goes.
    lab.control("delay", "RemoveSnapshot_Task", 2)
    saved: Images = {}
    for point in (1, 2, 3):
        with Writing(guest):
            process = pair.start_source("sync", VM, "--json")
            try:
                while not lab.control("snapshots", VM):
                    assert process.poll() is None, process.communicate()
                folder = images / str(point)
                folder.mkdir()
                saved[point] = {key: folder / f"{key}.raw" for key in KEYS}
                for key, path in saved[point].items():
                    Frozen(lab.folder / "disks" / VM / str(key)).image(path)
                assert lab.control("snapshots", VM)
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
            assert process.returncode == 0, (out, err)
        live = lab.image(VM, images / "live")
        assert any(not filecmp.cmp(live[key], saved[point][key], shallow=False) for key in KEYS)
    saved[4] = lab.image(VM, images / "4")
    replica = pair.sync(VM)["replica"]
    with inside(pair) as vault:
        witnesses = Witnesses(pair, vault, replica, images)
        for point, taken in saved.items():
            witnesses.point_equals(point, taken)
