"""A small Linux that boots from its disk: a BIOS boot loader, a kernel and one static program, of Debian packages.

Nothing of it needs root or a mounted file system. Its one partition is FAT; the kernel and its memory disk lie there.
"""

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "syslinux": "syslinux",
    "extlinux": "extlinux",
    "mcopy": "mtools",
    "busybox": "busybox-static",
}
GREETING = "keysapart-drill login:"
_KERNEL = "linux-image-cloud-amd64"
_BOOT_SECTOR = Path("/usr/lib/EXTLINUX/mbr.bin")
_SECTOR = 512
_FIRST = 2048
_MIB = 1 << 20
_DISK_MIB = 40

_INIT = f"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox echo "{GREETING}" > /dev/ttyS0
/bin/busybox echo "{GREETING}" > /dev/tty0
while true; do /bin/busybox sleep 60; done
"""
_CONFIG = (
    "DEFAULT drill\nLABEL drill\n LINUX vmlinuz\n INITRD initrd\n APPEND console=tty0 console=ttyS0 quiet panic=1\n"
)


def missing() -> list[str]:
    """Debian packages without which no image can be built and booted."""
    return sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})


def image(path: Path, kernel: Path) -> None:
    """Write the disk, sparse, to ``path``; ``kernel`` is what ``kernel_of`` gave."""
    with path.open("wb") as file:
        boot = _BOOT_SECTOR.read_bytes()
        sectors = _DISK_MIB * _MIB // _SECTOR - _FIRST
        entry = b"\x80\0\0\0\x0e\0\0\0" + _FIRST.to_bytes(4, "little") + sectors.to_bytes(4, "little")
        file.write(boot.ljust(446, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa")
        file.truncate(_DISK_MIB * _MIB)
    fat = f"{path}@@{_FIRST * _SECTOR}"
    _run("mformat", "-i", fat, "-T", sectors, "-h", 64, "-s", 32, "-H", _FIRST, "-v", "DRILL", "::")
    _run("syslinux", "--install", "--offset", _FIRST * _SECTOR, path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "syslinux.cfg").write_text(_CONFIG)
        (folder / "initrd").write_bytes(_memory_disk())
        shutil.copy(kernel, folder / "vmlinuz")
        _run("mcopy", "-i", fat, *sorted(folder.iterdir()), "::")


def kernel_of(folder: Path) -> Path:
    """A kernel, unpacked from Debian's package into ``folder`` the first time."""
    there = folder / "vmlinuz"
    if there.exists():
        return there
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        depends = _run("apt-cache", "depends", "--important", _KERNEL)
        package = next(line.split()[-1] for line in depends.splitlines() if "Depends: linux-image" in line)
        _run("apt-get", "download", "-q", package, cwd=work)
        _run("dpkg-deb", "-x", next(work.glob("*.deb")), work / "x")
        next((work / "x" / "boot").glob("vmlinuz-*")).rename(there)
    return there


def _memory_disk() -> bytes:
    """An initramfs (cpio, newc): /init and /bin/busybox."""
    out = io.BytesIO()
    busybox = Path(shutil.which("busybox") or "busybox").read_bytes()
    files = [("dev", 0o040755, b""), ("bin", 0o040755, b""), ("bin/busybox", 0o100755, busybox)]
    files += [("init", 0o100755, _INIT.encode()), ("TRAILER!!!", 0, b"")]
    for number, (name, mode, data) in enumerate(files, 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0")
        out.write(bytes(-out.tell() % 4) + data)
        out.write(bytes(-out.tell() % 4))
    return out.getvalue()


def _run(*words: object, cwd: Path | None = None) -> str:
    # mtools looks at geometries that no disk has had for decades.
    environment = os.environ | {"MTOOLS_SKIP_CHECK": "1"}
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=cwd, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return done.stdout
