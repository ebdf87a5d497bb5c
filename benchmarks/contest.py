"""Rounds: everybody does the full copy and the delta once a round, in turn, so that a busy minute hits all alike."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from benchmarks import bare_pipe, peer_nbd
from benchmarks.disk import MIB, data_extents, delta, write_disk
from benchmarks.figures import Row
from benchmarks.ours import Site, SyncFigures, site
from benchmarks.peer_restic import BackupFigures, Restic
from benchmarks.read_and_hash import seconds_for
from common.grain import GRAIN_BYTES

_WRITES = 640


def rows(job: str, figures: SyncFigures, data_bytes: int) -> tuple[Row, Row]:
    """Our figures: the command as a whole, and the sync within it."""
    if figures.report["kind"] != job:
        raise RuntimeError(f"this should have been a {job} sync: {figures.report}")
    whole = Row(
        job,
        "keysapart (whole command)",
        figures.seconds,
        data_bytes,
        wire_bytes=figures.wire_bytes,
        sender_peak_bytes=figures.agent_peak_bytes,
        receiver_peak_bytes=figures.appliance_peak_bytes,
        stored_bytes=figures.report["stored_bytes"],
        processor_seconds=figures.processor_seconds,
    )
    sync = Row(job, "keysapart (sync)", figures.report["seconds"], data_bytes, wire_bytes=figures.report["bytes_sent"])
    return whole, sync


class Contest:
    """One bench disk and all contestants, with their files under ``top``."""

    def __init__(self, top: Path, mib: int) -> None:
        self._top = top
        self._mib = mib
        self._writes = _WRITES * mib // 2048
        self._disk = top / "disk.raw"
        write_disk(self._disk, mib)
        self._data_bytes = sum(length for _, length in data_extents(self._disk))
        self._rows: list[Row] = []
        self._site: Site | None = None
        self._restic: Restic | None = None

    def enter(self, running: contextlib.ExitStack) -> None:
        """Start both sites with the bench disk in a VM; ``running`` stops them."""
        self._site = running.enter_context(site(self._fresh("ours"), self._mib))
        self._site.disk.load(self._disk)

    def best(self) -> list[Row]:
        """Each contestant's fastest run of each job: what other work on the machine slowed down is left out."""
        found: dict[tuple[str, str], Row] = {}
        for row in self._rows:
            key = (row.job, row.contestant)
            if key not in found or row.seconds < found[key].seconds:
                found[key] = row
        return sorted(found.values(), key=lambda row: ("full", "delta", "compare", "read back").index(row.job))

    def ours(self, number: int) -> None:
        """A full sync, a delta sync, a compare, and the disk read back."""
        assert self._site is not None
        self._warm()
        self._rows += rows("full", self._site.sync("--full"), self._data_bytes)
        for offset, data in delta(self._mib, self._writes, seed=number):
            self._site.disk.write(offset, data)
        self._rows += rows("delta", self._site.sync(), self._delta_bytes)
        self._compare(number)
        self._read_back()

    def peers(self, number: int) -> None:
        """The bare pipe, nbdcopy, and restic with its delta."""
        self._add_pipe(bare_pipe.send_all(self._disk, self._fresh("pipe")))
        self._warm()
        self._add_nbd(peer_nbd.copy_full(self._disk, self._fresh("nbd")))
        shutil.rmtree(self._top / "nbd")
        if self._restic is None:
            self._restic = Restic(self._fresh("restic"))
            self._warm()
            self._add_restic("full", self._restic.backup(self._disk), self._data_bytes)
        with self._disk.open("r+b") as file:
            for offset, data in delta(self._mib, self._writes, seed=number):
                file.seek(offset)
                file.write(data)
        self._add_restic("delta", self._restic.backup(self._disk), self._delta_bytes)

    def _warm(self) -> None:
        """Take and free as much memory as the disk has bytes, so that whoever stores next finds it in the machine.

        A virtual machine gets its memory from the host when it first touches it, and gives freed memory back: that
        alone made a store in memory twice as slow, for whoever came first.
        """
        block = bytes(MIB)
        with tempfile.TemporaryFile(dir=self._top) as file:
            for _ in range(self._mib):
                file.write(block)

    def _compare(self, number: int) -> None:
        """Change tracking is reset, and a fiftieth of the disk has changed."""
        assert self._site is not None
        grains = self._mib * MIB // GRAIN_BYTES // 50
        for offset, data in delta(self._mib, grains, seed=1000 + number):
            self._site.disk.write(offset, data)
        self._site.reset_tracking()
        self._rows += rows("compare", self._site.sync(), grains * GRAIN_BYTES)
        image = self._top / "image.raw"
        self._site.disk.image(image)
        seconds = seconds_for(image, self._top / "hash")
        image.unlink()
        self._rows.append(Row("compare", "read and hash, no more", seconds, self._mib * MIB))

    def _read_back(self) -> None:
        assert self._site is not None
        image = self._top / "image.raw"
        for name, read in (("keysapart export", self._site.export), ("nbdcopy, live view", self._site.copy_live)):
            self._warm()
            figures = read(image)
            image.unlink()
            self._rows.append(
                Row("read back", name, figures.seconds, self._data_bytes, sender_peak_bytes=figures.peak_bytes)
            )

    @property
    def _delta_bytes(self) -> int:
        return self._writes * GRAIN_BYTES

    def _add_pipe(self, one: bare_pipe.PipeFigures) -> None:
        # The disk grows a little with each round's delta: this is what was sent.
        self._rows.append(
            Row(
                "full",
                "bare gRPC pipe",
                one.seconds,
                one.data_bytes,
                one.wire_bytes,
                one.client_peak_bytes,
                one.server_peak_bytes,
                processor_seconds=one.processor_seconds,
            )
        )

    def _add_nbd(self, one: peer_nbd.NbdFigures) -> None:
        self._rows.append(
            Row(
                "full",
                "nbdcopy into LUKS",
                one.seconds,
                self._data_bytes,
                one.wire_bytes,
                one.client_peak_bytes,
                one.server_peak_bytes,
                one.stored_bytes,
                one.processor_seconds,
            )
        )

    def _add_restic(self, job: str, one: BackupFigures, data_bytes: int) -> None:
        self._rows.append(
            Row(
                job,
                "restic (local)",
                one.seconds,
                data_bytes,
                sender_peak_bytes=one.peak_bytes,
                stored_bytes=one.stored_bytes,
                processor_seconds=one.processor_seconds,
            )
        )

    def _fresh(self, name: str) -> Path:
        folder = self._top / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder
