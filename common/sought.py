"""Looking for texts that the searcher does not know: their salted digests and lengths are all he gets.

Who knows the texts (key ids and provider names of the source site) makes a ``Sought``; who holds bytes slides a window
of each length over them. A quick 32-bit hash sorts out all windows but a few, which scrypt then decides, so that a
digest can be turned back only by guessing the text, slowly. docs/evidence.md says what that is worth.
"""

import base64
import hashlib
import hmac
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FORMAT: Final = "keysapart sought 1"
SHORTEST: Final = 8
"""Bytes: what is shorter stands in any file by chance."""
LONGEST: Final = 1024
MOST_PATTERNS: Final = 4096
MOST_CANDIDATES: Final = 100_000
"""Windows that scrypt is asked about; more are no accident, and would take hours."""
_SALT_BYTES: Final = 16
_COST: Final = {"n": 1 << 14, "r": 8, "p": 1}
_CHUNK: Final = 1 << 17
"""Its words fit into a processor's cache."""

Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One text in one form."""

    kind: str
    """What the text is, such as ``key id``."""
    form: str
    """How it is written here, such as ``utf-16``."""
    length: int
    quick: int
    slow: bytes


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for."""

    salt: bytes
    patterns: tuple[Pattern, ...]
    left_out: int
    """Texts that are too short to be looked for."""

    def members(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "format": FORMAT,
            "salt": self.salt.hex(),
            "scrypt": _COST,
            "patterns": [
                {"kind": one.kind, "form": one.form, "length": one.length, "quick": one.quick, "slow": one.slow.hex()}
                for one in self.patterns
            ],
            "left_out": self.left_out,
        }

    @classmethod
    def parse(cls, members: dict[str, Any]) -> "Sought":
        """What ``members`` made.

        Raises:
            ValueError: that is something else.
        """
        try:
            if members["format"] != FORMAT or members["scrypt"] != _COST:
                raise ValueError("it is of another format")
            listed = members["patterns"]
            if len(listed) > MOST_PATTERNS:
                raise ValueError("it lists too many patterns")
            patterns = tuple(
                Pattern(str(one["kind"]), str(one["form"]), int(one["length"]), int(one["quick"]), _bytes(one["slow"]))
                for one in listed
            )
            salt, left_out = bytes.fromhex(members["salt"]), int(members["left_out"])
        except (KeyError, TypeError, AttributeError):
            raise ValueError("it is not of this format") from None
        good = all(SHORTEST <= one.length <= LONGEST and 0 <= one.quick < 1 << 32 for one in patterns)
        if not good or len(salt) != _SALT_BYTES or left_out < 0:
            raise ValueError("its numbers cannot be")
        return cls(salt, patterns, left_out)


@dataclass
class Seen:
    """What a search compared, and found."""

    files: int = 0
    bytes: int = 0
    windows: int = 0
    """Places and lengths at which the quick hash was compared."""
    candidates: int = 0
    """Windows that the quick hash did not sort out."""
    hits: list[tuple[str, int, Pattern]] = field(default_factory=list)
    """File, offset, what."""


def seek(texts: Iterable[tuple[str, str]], salt: bytes | None = None) -> Sought:
    """Patterns for ``texts``, pairs of kind and text, in every form that software gives them by accident."""
    salt = os.urandom(_SALT_BYTES) if salt is None else salt
    hashes = Hashes(salt)
    found: dict[bytes, Pattern] = {}
    left_out = 0
    for kind, text in dict.fromkeys(texts):
        forms = {form: one for form, one in _forms(text).items() if SHORTEST <= len(one) <= LONGEST}
        left_out += not SHORTEST <= len(text.encode()) <= LONGEST
        for form, one in forms.items():
            if one not in found:
                found[one] = Pattern(kind, form, len(one), hashes.quick(one), hashes.slow(one))
    return Sought(salt, tuple(found.values()), left_out)


class Search:
    """Slides windows over files; what it has seen is in ``seen``."""

    def __init__(self, sought: Sought) -> None:
        self._hashes = Hashes(sought.salt)
        self._by_length: dict[int, list[Pattern]] = {}
        for one in sought.patterns:
            self._by_length.setdefault(one.length, []).append(one)
        self._longest = max(self._by_length, default=1)
        self._powers, self._inverses = self._hashes.powers(_CHUNK + self._longest)
        self._scratch = np.empty_like(self._powers)
        self._known: dict[bytes, bytes] = {}
        self.seen = Seen()

    def file(self, name: str, read: Callable[[int], bytes]) -> None:
        """Look through a file, whose next bytes ``read`` gives, at most as many as asked, empty at the end.

        Raises:
            OverflowError: so much of it looks like what is sought that somebody made it so.
        """
        self.seen.files += 1
        before = b""
        offset = 0
        for chunk in _chunks(read):
            self._piece(name, before + chunk, len(before), offset - len(before))
            before = (before + chunk)[-(self._longest - 1) :] if self._longest > 1 else b""
            offset += len(chunk)
        self.seen.bytes += offset

    def _piece(self, name: str, data: bytes, old: int, at: int) -> None:
        """Windows that end in what is new; ``data`` begins at ``at``, its first ``old`` bytes were seen before."""
        words = self._hashes.table[np.frombuffer(data, np.uint8)] * self._powers[: len(data)]
        sums = np.zeros(len(data) + 1, np.uint32)
        np.cumsum(words, dtype=np.uint32, out=sums[1:])
        for length, patterns in self._by_length.items():
            first = max(0, old - length + 1)
            count = len(data) - length + 1 - first
            if count <= 0:
                continue
            self.seen.windows += count
            hashes = self._scratch[:count]
            np.subtract(sums[first + length :], sums[first : first + count], out=hashes)
            np.multiply(hashes, self._inverses[first : first + count], out=hashes)
            for one in patterns:
                for place in np.flatnonzero(hashes == np.uint32(one.quick)):
                    self._candidate(name, at, data, first + int(place), one)

    def _candidate(self, name: str, at: int, data: bytes, place: int, pattern: Pattern) -> None:
        self.seen.candidates += 1
        if self.seen.candidates > MOST_CANDIDATES:
            raise OverflowError(name)
        window = data[place : place + pattern.length]
        slow = self._known.get(window) or self._hashes.slow(window)
        self._known[window] = slow
        if hmac.compare_digest(slow, pattern.slow):
            self.seen.hits.append((name, at + place, pattern))


class Hashes:
    """The two hashes under one salt."""

    def __init__(self, salt: bytes) -> None:
        drawn = hashlib.shake_256(b"keysapart sought\0" + salt).digest(4 * 257)
        numbers = np.frombuffer(drawn, "<u4").astype(np.uint32)
        self.table: Words = numbers[:256]
        self._base = int(numbers[256]) | 5  # odd, so that it has an inverse; with a long period
        self._salt = salt

    def quick(self, text: bytes) -> int:
        """The sum of each byte's word times the base to the power of its place, modulo 2^32."""
        total = 0
        for byte in reversed(text):
            total = (total * self._base + int(self.table[byte])) % (1 << 32)
        return total

    def slow(self, text: bytes) -> bytes:
        """scrypt: some hundredth of a second each."""
        return hashlib.scrypt(text, salt=self._salt, maxmem=64 << 20, dklen=32, **_COST)

    def powers(self, count: int) -> tuple[Words, Words]:
        """The base to the powers 0, 1, 2 …, and their inverses."""
        inverse = pow(self._base, -1, 1 << 32)
        return _powers(self._base, count), _powers(inverse, count)


def _powers(base: int, count: int) -> Words:
    factors = np.full(count, base, np.uint32)
    factors[0] = 1
    return np.multiply.accumulate(factors, dtype=np.uint32)


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(_CHUNK):
        yield chunk


def _forms(text: str) -> dict[str, bytes]:
    raw = text.encode()
    cases = {"": text, "lower ": text.lower(), "upper ": text.upper()}
    forms = {
        **{f"{form}plain": one.encode() for form, one in cases.items()},
        **{f"{form}utf-16": one.encode("utf-16-le")[:-1] for form, one in cases.items()},  # of either byte order
        "hex": raw.hex().encode(),
        "upper hex": raw.hex().upper().encode(),
    }
    for shift in range(3):
        # The characters at either end depend on what stands beside the text.
        encoded = base64.b64encode(bytes(shift) + raw).rstrip(b"=")
        forms[f"base64 at {shift}"] = encoded[(0, 2, 3)[shift] : len(encoded) - (1 if (shift + len(raw)) % 3 else 0)]
    try:
        number = uuid.UUID(text)
    except ValueError:
        return forms
    plain = number.hex
    return forms | {
        "uuid": str(number).encode(),
        "upper uuid": str(number).upper().encode(),
        "uuid without hyphens": plain.encode(),
        "upper uuid without hyphens": plain.upper().encode(),
        "uuid in 16 bytes": number.bytes,
        "uuid in 16 bytes, fields reversed": number.bytes_le,
    }


def _bytes(text: Any) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 32:
        raise ValueError("a digest has another length")
    return found
