"""What needs no worker: results in words, where a library is found, messages, and what the worker's program imports."""

import os
import subprocess
import sys

import pytest

from common.errors import (
    AccessDeniedError,
    BusyError,
    InternalError,
    PreconditionError,
    SourceError,
    SourceUnavailableError,
)
from source_agent.disk_read.vddk import errors, protocol
from source_agent.disk_read.vddk.install import find_library, write_config

NAMED = [
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 20, 21, 22, 24, 26, 30, 32, 34, 35, 36, 1000, 2000, 3014, 4000),
    *range(14003, 14016),
    *(16000, 16001, 16002, 16003, 16006, 16007, 16008, 16012, 16013, 16014, 16016, 16017, 16020, 16027, 16030),
    *(16052, 16053, 16054, *range(16061, 16068), *range(17000, 17013), 18000, 18001, 18002, 20005),
]


@pytest.mark.parametrize("code", NAMED)
def test_every_result_that_has_a_name_has_a_row(code):
    assert code in errors.TABLE


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (1, SourceError, False),
        (3, InternalError, False),
        (5, BusyError, True),
        (13, AccessDeniedError, False),
        (26, SourceUnavailableError, True),
        (32, PreconditionError, False),
        (14009, SourceUnavailableError, True),
        (14015, SourceUnavailableError, True),
        (16017, PreconditionError, False),
        (17005, PreconditionError, False),
        (4711, SourceError, False),
    ],
)
def test_results_in_our_words(code, kind, retryable):
    error = errors.raised("Open", (7 << 32) | (3 << 16) | code, "vendor's text", "disk 2000", "disk 2000 fails")
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.message.startswith("disk 2000 fails (vendor's text, Open: VIX_E_")
    assert f", {code}, whole {(7 << 32) | (3 << 16) | code:#x})" in error.message
    assert error.next_step


def test_the_newest_library_is_taken_and_lib64_comes_first(tmp_path):
    assert find_library(tmp_path) is None
    (tmp_path / "libvixDiskLib.so.9").touch()
    assert find_library(tmp_path) == tmp_path / "libvixDiskLib.so.9"
    (tmp_path / "lib64").mkdir()
    for major in (6, 8):
        (tmp_path / "lib64" / f"libvixDiskLib.so.{major}").touch()
    assert find_library(tmp_path) == tmp_path / "lib64" / "libvixDiskLib.so.8"


def test_the_library_is_told_where_temporary_files_go_and_not_to_phone_home(tmp_path):
    config = write_config(tmp_path / "vddk")
    lines = config.read_text().splitlines()
    assert f"tmpDirectory={tmp_path / 'vddk' / 'tmp'}" in lines
    assert "vixDiskLib.phoneHome.EnablePhoneHome=0" in lines
    assert (tmp_path / "vddk" / "tmp").is_dir()
    assert write_config(tmp_path / "vddk") == config


def test_messages_come_out_as_they_went_in():
    reads = [(3, 1 << 40, 2048), (0, 0, 1)]
    assert list(protocol.unpack_reads(protocol.pack_reads(reads))) == reads
    ended = [(5, (1 << 63) | 14009), (0, 0)]
    assert list(protocol.unpack_done(protocol.pack_done(ended))) == ended
    assert protocol.unpack_json(protocol.pack_json({"do": "text", "result": 1 << 50})) == {
        "do": "text",
        "result": 1 << 50,
    }
    assert len(protocol.pack_log("log", b"x" * 10_000)) < protocol.MESSAGE_BYTES


def test_the_workers_program_brings_no_ssl():
    program = "import sys, source_agent.disk_read.vddk.worker; print(*sys.modules)"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # it brings its own
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, env=bare)
    assert not {"ssl", "_ssl", "_hashlib", "grpc", "cryptography", "structlog", "pyVmomi"} & set(done.stdout.split())
