"""What libraries in the field do, one test each; the lab's library does it on command."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from common.errors import (
    AccessDeniedError,
    BusyError,
    PreconditionError,
    SourceError,
    SourceUnavailableError,
)
from common.extent import Extent
from source_agent.disk_read.vddk.disk import TRIES
from source_agent.disk_read.vddk.protocol import SLOT_BYTES, SLOTS
from tests.unit.source_agent.disk_read.vddk.conftest import CAPACITY, HOLE, MIB
from tests.unit.source_agent.vms import disk, frozen


@pytest.mark.parametrize("release", ["6.5", "6.7", "8.0"])
@pytest.mark.parametrize("mode", ["nbdssl", "hotadd"])
def test_every_release_is_read_whole(stage, release, mode):
    """6.5 lacks functions, 6.7 leaves rubbish in Info, nbdssl calls back inside the call and later."""
    assert stage.read(stage.reader(stage.root(release), mode=mode)) == stage.image


@pytest.mark.parametrize("step", [3 * 512, MIB - 512, MIB])
@pytest.mark.parametrize("announced", [True, False])
def test_pieces_of_any_size_are_right(stage, step, announced):
    reader = stage.reader(stage.root())
    pieces = [Extent(at, step) for at in (0, MIB - step // 2 // 512 * 512, CAPACITY - step)]
    with reader.open(stage.taken, stage.disk) as opened:
        if announced:
            opened.expect(pieces)
        for piece in pieces:
            with opened.lend(piece) as lent:
                assert lent == stage.image[piece.offset : piece.end]


def test_a_piece_that_is_lent_outlives_the_worker(stage):
    with stage.reader(stage.root()).open(stage.taken, stage.disk) as opened:
        with opened.lend(Extent(0, MIB)) as lent:
            opened._worker._process.kill()
            with opened.lend(Extent(MIB, MIB)) as other:
                assert other == stage.image[MIB : 2 * MIB]
            assert lent == stage.image[:MIB]
        assert opened._worker.free.qsize() == SLOTS


def test_with_all_slots_lent_a_reader_waits(stage):
    with (
        stage.reader(stage.root()).open(stage.taken, stage.disk) as opened,
        ThreadPoolExecutor(2 * SLOTS) as threads,
    ):
        barrier = threading.Barrier(SLOTS)

        def read(number):
            with opened.lend(Extent(number % 8 * MIB, MIB)) as lent:
                if number < SLOTS:
                    barrier.wait()
                return lent == stage.image[number % 8 * MIB : (number % 8 + 1) * MIB]

        first = [threads.submit(read, number) for number in range(SLOTS)]
        others = [threads.submit(read, number) for number in range(SLOTS, 2 * SLOTS)]
        assert all(one.result() for one in (*first, *others))


@pytest.mark.parametrize("instead", ["nbdssl", "nbd", "san"])
def test_a_silent_fallback_is_refused(stage, instead):
    root = stage.root()
    root.set(fallback=instead)
    with pytest.raises(PreconditionError, match=f"asked for over hotadd, and the library opened it over {instead}"):
        stage.reader(root, mode="hotadd").open(stage.taken, stage.disk)
    assert root.left("attached") == []


def test_a_wrong_thumbprint_shows_as_a_failure_to_open_and_is_hinted_at(stage):
    with pytest.raises(SourceError, match="Open: VIX_E_FAIL, 1,") as caught:
        stage.reader(stage.root(), thumbprint=lambda: "00" * 20).open(stage.taken, stage.disk)
    assert "thumbprint" in caught.value.next_step
    assert not caught.value.retryable


def test_a_wrong_password_is_said(stage):
    with pytest.raises(AccessDeniedError, match="AUTHENTICATION_FAIL") as caught:
        stage.reader(stage.root(), password=lambda: "guessed wrong").open(stage.taken, stage.disk)
    assert "guessed wrong" not in str(caught.value)


def test_a_path_that_is_not_the_snapshots_is_refused(stage):
    other = disk(capacity_bytes=CAPACITY, backing_path="[ds] web01/web01-000007.vmdk")
    with pytest.raises(SourceError, match="FILE_NOT_FOUND, 4,"):
        stage.reader(stage.root()).open(stage.taken, other)


def test_another_vms_snapshot_is_refused(stage):
    root = stage.root()
    foreign = frozen(stage.disk, moref=stage.taken.moref)
    foreign = type(foreign)(foreign.moref, foreign.name, foreign.created, foreign.disks, "vm-666")
    with pytest.raises(SourceError, match="VM_NOT_FOUND"):
        stage.reader(root).open(foreign, stage.disk)


def test_allocated_parts_leave_the_hole_out_and_count_the_tail(stage):
    with stage.reader(stage.root()).open(stage.taken, stage.disk) as opened:
        assert list(opened.allocated(Extent(0, CAPACITY))) == [
            Extent(0, HOLE.start),
            Extent(HOLE.stop, CAPACITY - HOLE.stop),
        ]
        assert list(opened.allocated(Extent(HOLE.start, len(HOLE)))) == []
        assert list(opened.allocated(Extent(CAPACITY - 512, 512))) == [Extent(CAPACITY - 512, 512)]


@pytest.mark.parametrize("what", [3, 6, "crash"])
def test_where_allocated_parts_cannot_be_told_all_may_hold_data(stage, what):
    root = stage.root()
    root.fault("query", what)
    with stage.reader(root).open(stage.taken, stage.disk) as opened:
        assert list(opened.allocated(Extent(512, CAPACITY - 512))) == [Extent(512, CAPACITY - 512)]
        with opened.lend(Extent(0, 512)) as lent:
            assert lent == stage.image[:512]
    assert root.struck


def test_without_the_function_all_may_hold_data(stage):
    with stage.reader(stage.root("6.5")).open(stage.taken, stage.disk) as opened:
        assert list(opened.allocated(Extent(0, CAPACITY))) == [Extent(0, CAPACITY)]


def test_the_librarys_log_comes_from_its_own_thread_and_is_ours_at_debug(stage):
    with capture_logs() as lines, stage.reader(stage.root()).open(stage.taken, stage.disk):
        pass
    said = [line["text"] for line in lines if line["event"] == "the library says"]
    assert any(text.startswith("VixDiskLib: [") and text.endswith("service thread: Open") for text in said)
    assert all(line["log_level"] == "debug" for line in lines if line["event"] == "the library says")


@pytest.mark.parametrize("code", [14009, 14011, 14014, 36, 5])
@pytest.mark.parametrize("nth", [1, 6])
def test_a_loss_in_mid_read_is_got_over(stage, code, nth):
    root = stage.root()
    root.fault("read", code, nth)
    assert stage.read(stage.reader(root)) == stage.image
    assert root.struck


def test_a_crash_costs_an_attempt_and_no_byte(stage):
    root = stage.root()
    root.fault("read", "crash", 5)
    with capture_logs() as lines:
        assert stage.read(stage.reader(root)) == stage.image
    assert root.struck
    assert [line["cause"] for line in lines if line["event"] == "a disk is opened anew"] == [
        "the VDDK worker of disk 2000 was ended by SIGABRT"
    ]
    assert len(root.seen()) == 2


def test_a_worker_that_falls_silent_is_replaced(stage):
    root = stage.root()
    root.fault("read", "hang", 3)
    assert stage.read(stage.reader(root, silence_seconds=5.0)) == stage.image
    assert root.struck


def test_what_goes_on_crashing_ends_the_disk_with_one_sentence(stage):
    root = stage.root()
    root.fault("read", "crash", 1, always=True)
    with pytest.raises(SourceUnavailableError, match="worker of disk 2000 was ended by SIGABRT"):
        stage.read(stage.reader(root))
    assert len(root.seen()) == TRIES


@pytest.mark.parametrize(("code", "kind"), [(13, AccessDeniedError), (16007, Exception), (16002, SourceError)])
def test_what_does_not_pass_is_not_tried_again(stage, code, kind):
    root = stage.root()
    root.fault("read", code, 2, always=True)
    with pytest.raises(kind, match=rf"The lab's text for error {code}, Read: VIX_E_\w+, {code}, whole 0x10000a5"):
        stage.read(stage.reader(root))
    assert len(root.seen()) == 1


def test_a_disk_that_another_holds_is_waited_for(stage):
    root = stage.root()
    root.fault("open", 15, 1, always=True)
    with pytest.raises(BusyError, match="FILE_ALREADY_LOCKED"):
        stage.reader(root).open(stage.taken, stage.disk)
    assert len(root.seen()) == TRIES


def test_slow_reads_are_waited_for(stage):
    root = stage.root()
    root.set(slow_us=20000)
    assert stage.read(stage.reader(root)) == stage.image


def test_the_worker_is_alone_with_the_library_and_this_process_never_loads_it(stage):
    root = stage.root()
    with stage.reader(root).open(stage.taken, stage.disk) as opened:
        assert root.seen() == {opened._worker.pid: "loaded alone"}
        assert "vixDiskLib" not in Path("/proc/self/maps").read_text()


def test_the_password_is_in_no_argument_and_no_environment(stage):
    with stage.reader(stage.root(), password=lambda: "not for logs").open(stage.taken, stage.disk) as opened:
        process = Path(f"/proc/{opened._worker.pid}")
        assert b"not for" not in (process / "cmdline").read_bytes()
        with contextlib.suppress(PermissionError):  # only root may look into a hardened process
            environment = (process / "environ").read_bytes().rstrip(b"\0").split(b"\0")
            assert {one.partition(b"=")[0] for one in environment} == {b"LD_LIBRARY_PATH", b"LC_ALL"}


def test_buffers_of_a_disk_are_bounded(stage):
    assert SLOTS * SLOT_BYTES <= 64 * MIB
    with stage.reader(stage.root()).open(stage.taken, stage.disk) as opened:
        assert opened._worker._mapped.nbytes == SLOTS * SLOT_BYTES


def test_the_worker_ends_with_the_disk(stage):
    opened = stage.reader(stage.root()).open(stage.taken, stage.disk)
    process = opened._worker._process
    with opened:
        assert process.poll() is None
    assert process.returncode == 0
    opened.__exit__(None, None, None)
    with pytest.raises(SourceError, match="is closed"), opened.lend(Extent(0, 512)):
        pass
    assert opened._worker is None, "a worker that nobody would end"


def test_leaving_while_a_read_hangs_ends_it(stage, monkeypatch):
    monkeypatch.setattr("source_agent.disk_read.vddk.disk._LEAVE_SECONDS", 0.5)
    root = stage.root()
    root.fault("read", "hang", 1)
    opened = stage.reader(root).open(stage.taken, stage.disk)
    failures = []

    def read():
        try:
            with opened.lend(Extent(0, 512)):
                pass
        except SourceUnavailableError as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    with opened:
        thread.start()
        while not root.struck:
            threading.Event().wait(0.01)
    thread.join()
    assert len(failures) == 1


def test_a_library_that_cannot_be_loaded_is_said(stage):
    root = stage.root()
    library = root.folder / "lib64" / "libvixDiskLib.so.8"
    library.unlink()
    library.write_bytes(b"not a library")
    with pytest.raises(PreconditionError, match="cannot be loaded") as caught:
        stage.reader(root).open(stage.taken, stage.disk)
    assert "vddk_dir" in caught.value.next_step
