"""qemu-img as a witness: what it says about our files."""

import json
import subprocess
from pathlib import Path
from typing import Any


def qemu_img(*words: object) -> subprocess.CompletedProcess[str]:
    """Run it; the caller looks at the exit code."""
    command = ["qemu-img", *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def compare(raw: Path, other: Path, form: str) -> None:
    """Two images must have the same content and the same size."""
    done = qemu_img("compare", "-f", "raw", "-F", form, raw, other)
    assert done.returncode == 0, (raw, other, done.stdout, done.stderr)
    # Compare overlooks a difference in size where the rest is zeros, and its strict mode wants equal holes as well.
    assert info(other)["virtual-size"] == raw.stat().st_size


def info(path: Path, *, chain: bool = False) -> Any:
    """``info`` as JSON: an object, or a list from the newest down with ``chain``."""
    done = qemu_img("info", "--output=json", *(["--backing-chain"] if chain else []), path)
    assert done.returncode == 0, (path, done.stderr)
    return json.loads(done.stdout)


def mapped(path: Path) -> list[dict[str, Any]]:
    """``map``: extents of the disk, which says at what depth of the chain each lies."""
    done = qemu_img("map", "--output=json", path)
    assert done.returncode == 0, (path, done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def check(path: Path) -> dict[str, Any]:
    """``check`` must find the file whole."""
    done = qemu_img("check", "--output=json", "-f", "vmdk", path)
    assert done.returncode == 0, (path, done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    assert not any(found.get(word) for word in ("check-errors", "corruptions", "leaks")), found
    return found
