"""The lab's VDDK punishes what a real one does: each program below is wrong in one way, and dies or is told."""

import signal
import subprocess
import sys

import pytest

from tests.contracts.vddk_stage import PASSWORD, THUMBPRINT, USER, publish, root_for
from tests.unit.source_agent.vms import disk, frozen

CAPACITY = (4 << 20) + 512
_BEGIN = f"""
import ctypes, os, sys, threading
from source_agent.disk_read.vddk.library import Disk, Library, VixFailure
path, root = sys.argv[1:]
heard = []
values = dict(vm="vm-1", server="vc", port=443, data_port=902, user={USER!r}, password={PASSWORD!r},
              thumbprint={THUMBPRINT!r}, snapshot="snapshot-47", mode="nbdssl", path="[ds] web01/web01.vmdk")
def library():
    return Library(path, root, path, lambda level, text: heard.append((threading.get_ident(), level, text)))
def opened(**changes):
    return Disk(lib, values | changes)
def query(start, sectors, chunk):
    from source_agent.disk_read.vddk.abi import BlockList
    made = ctypes.pointer(ctypes.POINTER(BlockList)())
    return lib.call("QueryAllocatedBlocks", d.handle, start, sectors, chunk, made)
lib = library()
"""


@pytest.fixture
def run(tmp_path):
    """Runs a program over the library, of which the first lines are written already."""
    root = root_for(tmp_path)
    (tmp_path / "disk.raw").write_bytes(b"\1" * CAPACITY)
    taken = frozen(disk(capacity_bytes=CAPACITY, backing_path="[ds] web01/web01.vmdk"), moref="snapshot-47")
    publish(tmp_path, taken, {2000: tmp_path / "disk.raw"})
    library = root.folder / "lib64" / "libvixDiskLib.so.8"

    def program(text, root_folder=root.folder):
        command = [sys.executable, "-c", _BEGIN + text, str(library), str(root_folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return program


def test_what_is_right_works(run):
    done = run(
        "d = opened(); b = ctypes.create_string_buffer(512); print(d.read(0, 1, ctypes.addressof(b)), b.raw[:2])"
    )
    assert (done.stdout, done.stderr) == ("0 b'\\x01\\x01'\n", "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("library()", "InitEx must run once"),
        ("d = opened(); t = threading.Thread(target=d.close); t.start(); t.join()", "on another thread"),
        ("d = opened(); t = threading.Thread(target=opened); t.start(); t.join()", "on another thread"),
        ("d = opened(); t = threading.Thread(target=query, args=(0, 128, 128)); t.start(); t.join()", "another thread"),
        (
            "pid = os.fork()\nif pid == 0: opened()\nos._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) + 130)",
            "fork",
        ),
    ],
    ids=["twice", "close", "open", "query", "fork"],
)
def test_wrong_threads_and_processes_die(run, text, why):
    done = run(text)
    assert why in done.stderr
    assert done.returncode in {-signal.SIGABRT, 130 - signal.SIGABRT}


def test_a_handle_used_after_disconnect_crashes(run):
    done = run('d = opened(); lib.call("Disconnect", d._connection); lib.call("GetTransportMode", d.handle)')
    assert done.returncode == -signal.SIGSEGV


def test_null_loggers_crash(run):
    done = run(
        "f = ctypes.CDLL(path).VixDiskLib_InitEx; f(6, 5, None, None, None, root.encode(), None)",
    )
    assert done.returncode in {-signal.SIGSEGV, -signal.SIGABRT}


@pytest.mark.parametrize(
    "asked", [(64, 128, 128), (0, 100, 128), (0, 8193, 128), (0, 16384, 128), (0, 64, 64), (0, 128, 100)]
)
def test_an_allocated_query_that_does_not_fit_is_an_invalid_argument(run, asked):
    done = run(f"d = opened(); print(query(*{asked}) & 0xffff, query(0, 8192, 128))")
    assert done.stdout == "3 0\n", done.stderr


def test_logs_come_from_two_threads(run):
    done = run("d = opened(); print(len({who for who, _, _ in heard}), heard[0][2].endswith(b'build-lab'))")
    assert done.stdout == "2 True\n"


def test_the_folder_of_the_library_is_no_root(run, tmp_path):
    done = run("", root_folder=tmp_path / "vmware-vix-disklib-distrib" / "lib64")
    assert "no lab.conf" in done.stderr
