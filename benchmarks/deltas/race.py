"""Both twins through the same steps, each step sent by all three ways of sending a delta."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import bare_pipe
from benchmarks.deltas.figures import CBT_ONLY, OURS, RESTIC, Figure
from benchmarks.deltas.twins import ROOM, Twin, content_of
from benchmarks.deltas.writes import Step
from benchmarks.disk import MIB
from benchmarks.ours import Site, site
from benchmarks.peer_restic import Restic
from common.extent import Extent, normalise, round_to_grains, total
from common.grain import GRAIN_BYTES
from tests.lab.guest import punch


def run(twin: Twin, fresh: Path, steps: Sequence[Step], work: Path) -> Iterator[Figure]:
    """The figures of one twin, step by step.

    Args:
        twin: how the guest's writes look from outside.
        fresh: the file system's image as it was before the first step.
        steps: the workload.
        work: a folder of the run's own, made and removed.
    """
    capacity = fresh.stat().st_size + ROOM
    with twin.disk.open("wb") as disk:
        disk.truncate(capacity)
    for offset, data in (*twin.header(), *twin.writes(content_of(fresh))):
        _put(twin.disk, offset, data)
    for name in ("site", "restic"):
        (work / name).mkdir(parents=True)
    restic = Restic(work / "restic")
    with site(work / "site", capacity // MIB) as running:
        running.disk.load(twin.disk)
        if (kind := running.sync().report["kind"]) != "full":
            raise RuntimeError(f"this should have been a full sync, not a {kind}")
        restic.backup(twin.disk)
        for step in steps:
            touched = _happen(twin, step, running)
            changed = round_to_grains(touched, capacity)
            grains = total(changed) // GRAIN_BYTES
            report = running.sync().report
            if report["kind"] != "delta":
                raise RuntimeError(f"this should have been a delta sync: {report}")
            differ = sum(disk["grains_sent"] for disk in report["disks"])
            seen = (twin.name, step.name, grains, differ)
            yield Figure(*seen, OURS, report["bytes_sent"], report["seconds"])
            yield _cbt_only(seen, twin.disk, changed, work)
            backup = restic.backup(twin.disk)
            yield Figure(*seen, RESTIC, backup.stored_bytes, backup.seconds)
    shutil.rmtree(work)


def _happen(twin: Twin, step: Step, running: Site) -> tuple[Extent, ...]:
    """Do the step to the VM's disk and to the raw file; where that was."""
    touched = []
    for offset, data in twin.writes(step.writes):
        _put(twin.disk, offset, data)
        running.disk.write(offset, data)
        touched.append(Extent(offset, len(data)))
    for extent in twin.discards(step.discards):
        with twin.disk.open("r+b") as disk:
            punch(disk.fileno(), extent.offset, extent.length)
        running.disk.discard(extent.offset, extent.length)
        touched.append(extent)
    return normalise(touched)


def _cbt_only(seen: tuple[str, str, int, int], disk: Path, changed: Sequence[Extent], work: Path) -> Figure:
    folder = work / "pipe"
    folder.mkdir()
    sent = bare_pipe.send_all(disk, folder, ((extent.offset, extent.length) for extent in changed))
    shutil.rmtree(folder)
    return Figure(*seen, CBT_ONLY, sent.data_bytes, sent.seconds)


def _put(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(data)
