"""Looking for bytes that must not be somewhere, in every disguise that software puts them in by accident."""

import base64
import mmap
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path

_EDGE = 2
"""Base64 characters at either end that depend on what stands beside the secret."""


def disguises(secret: bytes) -> dict[str, bytes]:
    """Forms of a secret, by name; halves too, so that one that was cut in two is found."""
    forms = {
        "raw": secret,
        "first half": secret[: len(secret) // 2],
        "second half": secret[len(secret) // 2 :],
        "hex": secret.hex().encode(),
        "upper hex": secret.hex().upper().encode(),
        "spaced hex": secret.hex(" ").encode(),
        "escaped": repr(secret)[2:-1].encode(),
        "json": "".join(f"\\u{byte:04x}" for byte in secret).encode(),
        "percent": urllib.parse.quote_from_bytes(secret).encode(),
        "utf-16 of hex": secret.hex().encode("utf-16-le"),
        "utf-16 of base64": base64.b64encode(secret).decode()[:-_EDGE].encode("utf-16-le"),
    }
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + secret)
        forms[f"base64 at {shift}"] = encoded[_EDGE + 2 : -_EDGE - 2]
        forms[f"url base64 at {shift}"] = encoded[_EDGE + 2 : -_EDGE - 2].translate(bytes.maketrans(b"+/", b"-_"))
    return forms


def text_disguises(text: str) -> dict[str, bytes]:
    """Forms of a word; it may be short, so that its halves and pieces of their base64 mean nothing."""
    raw = text.encode()
    forms = {name: form for name, form in disguises(raw).items() if "half" not in name and len(form) >= len(raw)}
    return forms | {"utf-16": text.encode("utf-16-le"), "lower": raw.lower()}


def files(folder: Path, without: Iterable[Path] = ()) -> Iterator[Path]:
    """Every regular file below, symbolic links not followed."""
    left_out = tuple(without)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not any(path.is_relative_to(one) for one in left_out):
            yield path


def hits(paths: Iterable[Path], forms: dict[str, bytes]) -> list[str]:
    """Where which form stands, file names included."""
    found = []
    for path in paths:
        found += [f"name of {path}: {name}" for name, form in forms.items() if form in str(path).encode()]
        if not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found += [f"{path}: {name}" for name, form in forms.items() if content.find(form) >= 0]
    return found


def hits_in(what: str, pieces: Iterable[bytes], forms: dict[str, bytes]) -> list[str]:
    """The same for bytes in memory."""
    return [f"{what}: {name}" for piece in pieces for name, form in forms.items() if form in piece]


def shown_by(pid: int) -> list[bytes]:
    """Arguments and environment of a process."""
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    try:
        return [arguments, Path(f"/proc/{pid}/environ").read_bytes()]
    except PermissionError:
        # Shown to nobody but root, which is what a process that cannot be dumped asks of the kernel.
        return [arguments]
