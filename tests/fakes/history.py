"""A VM's life at random, the same for the same seed: guests write, administrators meddle, syncs crash.

After each committed sync the target must hold what the guest held, at this point and at an older one; and what was
foretold must be what was done.
"""

import dataclasses
import random
from pathlib import Path
from unittest import mock

from common.errors import KeysapartError, ParkedSyncError, PreconditionError, SourceError
from common.grain import GRAIN_BYTES
from source_agent import in_flight
from source_agent.disk_read.memory import MemoryReader
from source_agent.needs import Agent
from source_agent.outlook import look_ahead
from source_agent.replicate import sync_vm
from source_agent.stop import Stop
from source_agent.stream.channel import Target
from source_agent.vsphere.memory import MemorySite, MemoryVSphere
from tests.fakes.clock import ManualClock
from tests.fakes.served import Served
from tests.faults.vsphere import FaultyVSphere

SECTOR = 512
SIZES = (8 * GRAIN_BYTES, 5 * GRAIN_BYTES + 3 * SECTOR)
AGENT = "00000000-0000-4000-8000-00000000000a"
_GOOD_HOST, _BAD_HOST = ("8.0.3", 24022510), ("6.0.0", 2494585)


class _BreakingReader(MemoryReader):
    """A reader that breaks after some disks."""

    def __init__(self, site: MemorySite, opens: int) -> None:
        super().__init__(site)
        self._left = opens

    def open(self, snapshot, disk):
        self._left -= 1
        if self._left < 0:
            raise SourceError("the reader broke", subject=f"disk {disk.key}", next_step="sync again")
        return super().open(snapshot, disk)


class _DyingReader(MemoryReader):
    """A reader that ends the process in the middle of what is read."""

    def __init__(self, site: MemorySite, reads: int) -> None:
        super().__init__(site)
        self._left = reads

    def open(self, snapshot, disk):
        opened = super().open(snapshot, disk)
        read_into = opened.read_into

        def dying(offset, buffer):
            self._left -= 1
            if self._left < 0:
                raise SourceError("killed", subject="process", next_step="-")
            read_into(offset, buffer)

        opened.read_into = dying
        return opened


class _StoppingReader(MemoryReader):
    """A reader during which the agent is told to stop, in the middle of what is read."""

    def __init__(self, site: MemorySite, reads: int, stop: Stop) -> None:
        super().__init__(site)
        self._left = reads
        self._stop = stop

    def open(self, snapshot, disk):
        opened = super().open(snapshot, disk)
        read_into = opened.read_into

        def stopping(offset, buffer):
            read_into(offset, buffer)
            self._left -= 1
            if self._left < 0:
                self._stop.park("SIGTERM ended the agent")

        opened.read_into = stopping
        return opened


class Quiet:
    """Progress that nobody watches."""

    def say(self, text):
        """Nothing."""

    def disk(self, task, total_bytes, count):
        """Nothing."""


class History:
    """One VM under one agent of an appliance that others may share."""

    def __init__(self, folder: Path, server: Served, target: Target, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = ManualClock()
        self.site = MemorySite(folder / "site", page_areas=self.rng.choice((1, 3, 2000)), clock=self.clock)
        self.site.tracked_bytes = self.rng.choice((SECTOR, 4096, GRAIN_BYTES, 4 * GRAIN_BYTES))
        self.name = f"life-{seed}"  # the site calls its VMs vm-1, vm-2, … and a VM is found by either
        self.machine = self.site.add_vm(self.name, SIZES, encrypted=True)
        self.site.add_vm("agent-vm", (GRAIN_BYTES,), encrypted=True)
        if self.rng.random() < 0.2:
            self.machine.forgetful_host = True
            self.machine.host_version, self.machine.host_build = _BAD_HOST
        self.server = server
        self.vsphere = FaultyVSphere(MemoryVSphere(self.site))
        self.agent = Agent(
            agent_id=AGENT,
            vsphere=self.vsphere,
            reader=MemoryReader(self.site),
            target=target,
            clock=self.clock,
            state_dir=folder / "state",
            agent_vm="agent-vm",
            quiesce=False,
            parallel_disks=2,
        )
        self.points: dict[int, dict[int, bytes]] = {}
        self.kinds: list[str] = []
        self.told: list[str] = []
        self.frozen: dict[int, bytes] = {}
        """What the guest held when the sync began that a killed process left behind."""
        self.resumed = 0
        self.parked = 0

    def live(self, steps: int) -> None:
        """Do ``steps`` things and a sync after the last; what happened stands in ``told``."""
        meddling = [self._reset, self._foreign, self._drop, self._visit, self._grow, self._relocate, self._replace]
        meddling += [self._host, self._crash, self._kill, self._kill, self._untrack, self._switch_off]
        meddling += [self._park, self._park, self._park, self._tour, self._tour]
        for _ in range(steps):
            self.clock.advance(self.rng.choice((7, 7, 600, 600, 86400, 40 * 86400)))
            thing = self.rng.choices((self._write, self._sync, self.rng.choice(meddling)), (9, 9, 4))[0]
            self.told.append(thing.__name__.strip("_"))
            thing()
        self._drop()
        self.clock.advance(60)
        self._sync()
        assert self.points

    def _write(self) -> None:
        for _ in range(self.rng.randrange(1, 6)):
            disk = self.rng.choice(list(self.machine.disks.values()))
            length = min(self.rng.choice((SECTOR, 3 * SECTOR, 4096, GRAIN_BYTES, 2 * GRAIN_BYTES)), disk.capacity_bytes)
            places = (disk.capacity_bytes - length) // SECTOR
            offset = self.rng.choice((self.rng.randrange(places + 1), places)) * SECTOR
            data = self.rng.choice((bytes(length), self.rng.randbytes(length), b"same" * (length // 4)))
            self.site.write(self.machine.moref, disk.key, offset, data)

    def _reset(self) -> None:
        self.site.reset_tracking(self.machine.moref)

    def _foreign(self) -> None:
        if len(self.machine.snapshots) < 3:
            self.site.add_foreign_snapshot(self.machine.moref, "somebody's")

    def _revert(self) -> None:
        if self.machine.snapshots and not self._ours():
            self.site.revert(self.machine.moref)

    def _drop(self) -> None:
        for frozen in [one for one in self.machine.snapshots if one.info.name == "somebody's"]:
            self.vsphere.remove_snapshot(self.machine.moref, frozen.info.moref)

    def _visit(self) -> None:
        """An administrator tries something, perhaps for longer than until the next sync, and takes it back."""
        if self.machine.snapshots:
            return
        self._foreign()
        self._write()
        if self.rng.random() < 0.5:
            self._sync()
        self._write()
        self._revert()
        self.machine.consolidation_needed = self.rng.random() < 0.5  # the VM runs on in the file that it was in
        self._drop()
        self.machine.consolidation_needed = False
        self.clock.advance(self.rng.choice((60, 40 * 86400)))

    def _switch_off(self) -> None:
        """Somebody switches change tracking off."""
        if not self.machine.snapshots:
            self.machine.tracking_wanted = False
            for disk in self.machine.disks.values():
                disk.track(wanted=False)

    def _grow(self) -> None:
        if not self.machine.snapshots:
            disk = self.rng.choice(list(self.machine.disks.values()))
            disk.grow(disk.capacity_bytes + self.rng.choice((SECTOR, GRAIN_BYTES, 3 * GRAIN_BYTES + SECTOR)))

    def _relocate(self) -> None:
        if not self.machine.snapshots:
            self.site.relocate(self.machine.moref)

    def _replace(self) -> None:
        """Another disk under the same key and name: other content, other UUID, and tracking that began elsewhere."""
        if not self.machine.snapshots:
            disk = self.rng.choice(list(self.machine.disks.values()))
            disk.disk_uuid = f"{self.rng.getrandbits(128):032x}"
            disk.file.write_bytes(self.rng.randbytes(GRAIN_BYTES).ljust(disk.capacity_bytes, b"\0"))

    def _host(self) -> None:
        """The hosts are upgraded; in some lives they were of a release that leaves changes out."""
        self.machine.forgetful_host = False
        self.machine.host_version, self.machine.host_build = _GOOD_HOST

    def _tour(self) -> None:
        """DRS moves the VM to a host that leaves changes out, and back."""
        home = self.machine
        back, forgetful = (home.host, home.host_version, home.host_build), home.forgetful_host
        self.site.move(home.moref, "esx-old", *_BAD_HOST, forgetful=True)
        self._write()
        self.site.move(home.moref, *back, forgetful=forgetful)

    def _untrack(self) -> None:
        disk = self.rng.choice(list(self.machine.disks.values()))
        disk.untracked = not disk.untracked
        disk.track(wanted=self.machine.tracking_wanted)

    def _ours(self) -> bool:
        return any(one.info.name != "somebody's" for one in self.machine.snapshots)

    def _crash(self) -> None:
        """A sync that ends half way: the reader breaks, or the vCenter does, and perhaps the clean-up as well."""
        point = len(self.points) + 1
        if self.rng.random() < 0.5:
            self.vsphere.fail(
                "remove_snapshot", lambda: SourceError("the host is busy", subject="vm", next_step="wait")
            )
        reader = _BreakingReader(self.site, self.rng.randrange(2))
        images = self._images()
        try:
            report = self._run(dataclasses.replace(self.agent, reader=reader))
        except KeysapartError:
            assert len(self._held()) < point
        else:  # nothing had to be read
            self._committed(report, images)
        self.vsphere.heal()

    def _kill(self) -> None:
        """The agent's process is gone in mid-sync: it tells nobody, and cleans nothing up."""
        images, before = self._images(), self._noted()
        for _ in range(9):
            self.vsphere.fail("remove_snapshot", lambda: SourceError("killed", subject="process", next_step="-"))
        reader = _DyingReader(self.site, self.rng.randrange(3))
        with mock.patch.object(in_flight, "forget"), mock.patch.object(self.agent.target, "abort"):
            try:
                report = self._run(dataclasses.replace(self.agent, reader=reader))
            except KeysapartError:
                if self._noted() != before:  # else the killed process had gone on with the sync of one before it
                    self.frozen = images
            else:
                self._committed(report, images)
        self.vsphere.heal()

    def _park(self) -> None:
        """The agent is told to stop in mid-sync, which may be one that was parked or killed before."""
        images, before = self._images(), self._noted()
        stop = Stop()
        reader = _StoppingReader(self.site, self.rng.randrange(3), stop)
        try:
            report = self._run(dataclasses.replace(self.agent, reader=reader, stop=stop))
        except ParkedSyncError:
            self.parked += 1
            assert sum(one.info.name != "somebody's" for one in self.machine.snapshots) == 1
            if self._noted() != before:
                self.frozen = images
        except PreconditionError:
            return
        else:
            self._committed(report, images)

    def _noted(self) -> str | None:
        note = in_flight.load(self.agent.state_dir, self.machine.instance_uuid)
        return note.sync if note else None

    def _sync(self) -> None:
        images = self._images()
        seen = look_ahead(self.agent, self.name)
        try:
            report = self._run(self.agent)
        except PreconditionError:
            assert not seen.ready
            return
        assert seen.ready
        assert seen.plan.kind.value == report.kind
        assert [disk.kind.value for disk in seen.plan.disks] == [disk.kind for disk in report.disks]
        expected = report.expected
        assert report.bytes_read <= expected.bytes_to_read
        assert report.bytes_read == expected.bytes_to_read or "holes" in expected.basis or report.resumed
        if {disk.kind for disk in report.disks} == {"compare"} and not report.resumed:
            assert seen.expectation.bytes_to_read == report.bytes_read
        self._committed(report, images)

    def _run(self, agent: Agent):
        return sync_vm(agent, self.name, requested=None, progress=Quiet())

    def _images(self) -> dict[int, bytes]:
        return {key: self.site.image(self.machine.moref, key) for key in self.machine.disks}

    def _committed(self, report, images: dict[int, bytes]) -> None:
        """A sync that goes on holds what the guest held when its snapshot was taken."""
        self.kinds.append(report.kind)
        self.resumed += report.resumed
        self._settle(self.frozen if report.resumed else images)

    def _settle(self, images: dict[int, bytes]) -> None:
        self.points[len(self.points) + 1] = images
        assert self._held() == sorted(self.points)
        for point in {len(self.points), self.rng.randrange(1, len(self.points) + 1)}:
            for key, image in self.points[point].items():
                assert self._content(point, key) == image, f"disk {key} of point {point} is not what the guest held"

    def _held(self) -> list[int]:
        return list(self.server.behind.vault.point_numbers("acme", self.machine.instance_uuid))

    def _content(self, point: int, key: int) -> bytes:
        with self.server.behind.vault.view("acme", self.machine.instance_uuid, key, point) as view:
            whole = b"".join(grain or bytes(GRAIN_BYTES) for grain in view.read(0, view.grains))
            return whole[: view.capacity_bytes]
