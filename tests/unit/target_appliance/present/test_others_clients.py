"""The clients that people use: libnbd's and qemu's."""

import json
import subprocess
import threading

import pytest

from common.grain import GRAIN_BYTES
from tests.unit.target_appliance.present.conftest import SIZE

DISKS = [("disk-2000", 2000), ("disk-2001", 2001)]


def done(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True, timeout=120).stdout


def test_nbdinfo_lists_and_maps(view):
    listed = json.loads(done("nbdinfo", "--json", "--list", view.uri()))
    assert [one["export-name"] for one in listed["exports"]] == [name for name, _ in DISKS]
    first = listed["exports"][0]
    assert (first["export-size"], first["is_read_only"], first["can_multi_conn"]) == (SIZE, True, True)
    assert first["contexts"] == ["base:allocation"]
    mapped = json.loads(done("nbdinfo", "--json", "--map", view.uri("disk-2000")))
    assert [(one["offset"], one["type"]) for one in mapped][:3] == [(0, 0), (3 * GRAIN_BYTES, 3), (17 * GRAIN_BYTES, 0)]


@pytest.mark.parametrize(("name", "disk"), DISKS)
def test_nbdcopy_copies(view, world, tmp_path, name, disk):
    done("nbdcopy", view.uri(name), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == world.image(1, disk)


@pytest.mark.parametrize(("name", "disk"), DISKS)
def test_qemu_img_converts_compares_and_maps(view, world, tmp_path, name, disk):
    done("qemu-img", "convert", "-f", "raw", "-O", "raw", view.uri(name), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == world.image(1, disk)
    done("qemu-img", "compare", "-f", "raw", "-F", "raw", view.uri(name), tmp_path / "copy")
    mapped = json.loads(done("qemu-img", "map", "--output=json", "-f", "raw", view.uri(name)))
    assert sum(one["length"] for one in mapped) == len(world.image(1, disk))


def test_qemu_io_reads_unaligned_and_may_not_write(view):
    assert "read 5000/5000" in done("qemu-io", "-r", "-f", "raw", "-c", "read 100 5000", view.uri("disk-2000"))
    refused = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 512", view.uri("disk-2000")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode != 0


def test_three_at_once(view, world, tmp_path):
    def run(number):
        done("nbdcopy", view.uri("disk-2000"), tmp_path / f"copy{number}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(tmp_path / f"copy{number}").read_bytes() for number in range(3)} == {world.image(1)}
    assert view.clients.served >= 3
