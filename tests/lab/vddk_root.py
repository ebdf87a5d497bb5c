"""The lab's VDDK: a root folder laid out as the vendor's, with the library that was built, and how it misbehaves.

What the library does wrong is asked for in ``lab.conf`` and ``fault`` (see ``vddk/manners.c``); what it has noticed it
writes to ``seen``.
"""

from pathlib import Path

from tests.lab import build

RELEASES = {"6.5": "libvixDiskLib.so.6", "6.7": "libvixDiskLib.so.6", "8.0": "libvixDiskLib.so.8"}


class VddkRoot:
    """``<folder>/{lib64,bin64,include}``.

    Args:
        folder: made when missing.
        values: lines of lab.conf; at least snapshots, thumbprint, user and password_file.
        release: 6.5, 6.7 or 8.0.
    """

    def __init__(self, folder: Path, values: dict[str, object], release: str = "8.0") -> None:
        self.folder = folder
        self._values = dict(values)
        for name in ("lib64", "bin64", "include"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        library = folder / "lib64" / "libvixDiskLib.so"
        library.unlink(missing_ok=True)
        library.symlink_to(RELEASES[release])
        for name in set(RELEASES.values()):
            (folder / "lib64" / name).unlink(missing_ok=True)
        (folder / "lib64" / RELEASES[release]).symlink_to(build.vddk(release))
        self.set()

    def set(self, **values: object) -> None:
        """Add to or change lab.conf; counts for processes that load the library from now on."""
        self._values |= values
        text = "".join(f"{name}={value}\n" for name, value in self._values.items())
        (self.folder / "lab.conf").write_text(text)

    def fault(self, where: str, what: object, nth: int = 1, *, always: bool = False) -> None:
        """Make the ``nth`` call of a process go wrong: an error code, ``crash`` or ``hang``."""
        fresh = self.folder / "fault.new"
        fresh.write_text(f"{where} {what} {nth}{' always' if always else ''}\n")
        fresh.replace(self.folder / "fault")

    @property
    def struck(self) -> bool:
        """The fault was met."""
        return not (self.folder / "fault").exists()

    def seen(self) -> dict[int, str]:
        """What was noticed, by the id of the process that had loaded the library."""
        path = self.folder / "seen"
        lines = path.read_text().splitlines() if path.exists() else []
        return {int(pid): text for pid, _, text in (line.partition(" ") for line in lines)}

    def left(self, kind: str) -> list[str]:
        """Names of what is ``prepared`` or ``attached`` now."""
        return sorted(path.name for path in self.folder.glob(f"{kind}-*"))
