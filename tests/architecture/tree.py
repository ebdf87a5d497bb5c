"""The tracked files of the project, for tests that look at the tree itself."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PACKAGES = ("common", "source_agent", "target_appliance")


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git knows and that is there."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    return tuple(path for name in listing.split("\0") if name and (path := TOP / name).is_file())


def name(path: Path) -> str:
    """The path as people write it."""
    return path.relative_to(TOP).as_posix()


def is_generated(path: Path) -> bool:
    """Written by protoc or by a package manager."""
    return "common/wire/" in name(path) or path.suffix in {".lock", ".sum"}


def modules(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """(path, syntax tree) of every module of ours in the packages."""
    for path in tracked():
        if path.suffix == ".py" and name(path).split("/")[0] in (packages or PACKAGES) and not is_generated(path):
            yield name(path), ast.parse(path.read_text(), str(path))


def called(node: ast.Call) -> str:
    """What a call names, dotted as far as it is names: ``os.path.join``, ``open``, ``.read_text`` for a method."""
    parts: list[str] = []
    target = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    parts.append(target.id if isinstance(target, ast.Name) else "")
    return ".".join(reversed(parts))
