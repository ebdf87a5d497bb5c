"""Disks read through VDDK: the lab's always, a real one where KEYSAPART_VDDK_DIR names it."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from source_agent.disk_read.vddk.install import find_library
from tests.end_to_end import qemu
from tests.end_to_end.pair import Pair

pytestmark = pytest.mark.lab

VM = "web01"


def use(pair: Pair, transport: str) -> None:
    config = pair.lab.agent_toml
    config.write_text(config.read_text().replace('transport = "hotadd"', f'transport = "{transport}"'))


def exported_equal(pair: Pair, replica: str, point: int, folder: Path) -> None:
    for key, image in pair.lab.image(VM, folder / "images").items():
        out = folder / f"{key}-{point}.raw"
        pair.done("export", replica, "--disk", key, "--point", point, "--format", "raw", "--out", out)
        qemu.compare(image, out, "raw")


def test_an_encrypted_vm_over_nbdssl(embedded_pair: Pair, tmp_path: Path) -> None:
    pair = embedded_pair
    use(pair, "vddk-nbdssl")
    pair.lab.vddk.fault("read", "crash", 4)
    first = pair.sync(VM)
    assert pair.lab.vddk.struck
    assert first["kind"] == "full"
    exported_equal(pair, first["replica"], 1, tmp_path)

    pair.lab.guest(VM, 2000).write(5 << 20, b"changed" * 9000)
    second = pair.sync(VM)
    assert second["kind"] == "delta"
    exported_equal(pair, first["replica"], 2, tmp_path)

    assert set(pair.lab.vddk.seen().values()) == {"loaded alone"}
    assert pair.lab.control("snapshots", VM) == []
    assert pair.lab.vddk.left("prepared") == pair.lab.vddk.left("attached") == []


def test_the_agent_never_loads_the_library(embedded_pair: Pair) -> None:
    pair = embedded_pair
    use(pair, "auto")
    pair.lab.vddk.set(slow_us=50_000)
    process = pair.start_source("sync", VM, "--json")
    while not (seen := pair.lab.vddk.seen()):
        assert process.poll() is None, process.communicate()
    maps = ""
    with contextlib.suppress(PermissionError):  # only root may look into a hardened process; `seen` tells in any case
        maps = Path(f"/proc/{process.pid}/maps").read_text()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert "vixDiskLib" not in maps
    assert process.pid not in seen
    assert process.pid not in pair.lab.vddk.seen()
    assert "because there is a VDDK" in err


def test_without_the_library_auto_is_hot_add_and_vddk_is_refused(embedded_pair: Pair, tmp_path: Path) -> None:
    pair = embedded_pair
    config = pair.lab.agent_toml
    config.write_text(config.read_text().replace('vddk_dir = "vddk"', f'vddk_dir = "{tmp_path / "none"}"'))
    use(pair, "vddk-nbdssl")
    assert "no VDDK is installed" in pair.refused("plain01").error["message"]
    assert "no VDDK is installed" in pair.source("doctor").out
    config.write_text(config.read_text().replace("vddk-nbdssl", "auto"))
    outcome = pair.source("sync", "plain01", "--json")
    assert outcome.code == 0, outcome
    assert "because no VDDK is installed" in outcome.err


def test_a_silent_fallback_leaves_no_snapshot(embedded_pair: Pair) -> None:
    pair = embedded_pair
    use(pair, "vddk-hotadd")
    pair.lab.vddk.set(fallback="nbdssl")
    refused = pair.refused(VM)
    assert "asked for over hotadd, and the library opened it over nbdssl" in refused.error["message"]
    assert pair.lab.control("snapshots", VM) == []
    assert pair.lab.vddk.left("attached") == pair.lab.vddk.left("prepared") == []


_REAL = os.environ.get("KEYSAPART_VDDK_DIR", "")
_LOAD = """
import sys
from source_agent.disk_read.vddk.library import Library, VixFailure
library = Library(*sys.argv[1:], lambda level, text: None)
print(library.text(1), library.text(14009), library.has("QueryAllocatedBlocks"))
library.exit()
"""


@pytest.mark.skipif(not _REAL, reason="no real VDDK here: set KEYSAPART_VDDK_DIR to an unpacked one to try it")
def test_a_real_library_is_loaded_and_initialised(tmp_path: Path) -> None:
    """As much as can be done without a vCenter: bindings, loggers, texts, the end."""
    from source_agent.disk_read.vddk.install import write_config

    library = find_library(Path(_REAL))
    assert library is not None, f"no libvixDiskLib.so.N under {_REAL}"
    command = [sys.executable, "-I", "-c", _LOAD, str(library), _REAL, str(write_config(tmp_path))]
    done = subprocess.run(
        command,
        env={"LD_LIBRARY_PATH": str(library.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
