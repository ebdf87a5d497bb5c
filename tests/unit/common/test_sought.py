import base64
import io
import random
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import sought
from common.sought import Hashes, Search, Sought, seek

SALT = bytes(range(16))
KEY = "5bb5b1c8-7f6c-4d3e-9a51-1f0b5a3c9d77"
PROVIDER = "Source-Site-KMS"
SOUGHT = seek([("key id", KEY), ("key provider", PROVIDER)], SALT)


def search(*contents: bytes, piece: int = 1 << 20) -> Search:
    found = Search(SOUGHT)
    for number, content in enumerate(contents):
        file = io.BytesIO(content)
        found.file(f"file {number}", lambda size, file=file: file.read(min(size, piece)))
    return found


@pytest.mark.parametrize(
    "disguise",
    [
        KEY.encode(),
        KEY.upper().encode(),
        KEY.encode("utf-16-le"),
        KEY.encode("utf-16-be"),
        KEY.upper().encode("utf-16-le"),
        KEY.encode().hex().encode(),
        uuid.UUID(KEY).bytes,
        uuid.UUID(KEY).bytes_le,
        uuid.UUID(KEY).hex.encode(),
        base64.b64encode(b"a" + KEY.encode() + b"zz"),
        base64.b64encode(b"ab" + KEY.encode() + b"z"),
        base64.b64encode(b"abc" + KEY.encode()),
        base64.b64encode(b"abc" + KEY.encode() + b"z"),
        PROVIDER.encode(),
        PROVIDER.lower().encode(),
        b'{"provider":"' + PROVIDER.upper().encode() + b'"}',
        base64.b64encode(b"x" + PROVIDER.encode() + b"yy"),
    ],
)
def test_a_text_is_found_in_any_disguise(disguise: bytes) -> None:
    rng = random.Random(disguise)
    before, after = rng.randbytes(5000), rng.randbytes(3000)
    found = search(before, before + disguise + after).seen
    assert found.hits
    (name, offset, pattern), *_ = found.hits
    assert name == "file 1"
    assert 5000 <= offset <= 5000 + 16
    assert pattern.kind in {"key id", "key provider"}


@settings(max_examples=60)
@given(place=st.integers(0, 3000), piece=st.integers(1, 400), data=st.binary(max_size=64))
def test_it_is_found_wherever_it_is_cut(place: int, piece: int, data: bytes) -> None:
    content = random.Random(place).randbytes(place) + KEY.encode() + data
    found = search(content, piece=piece).seen
    assert (found.files, found.bytes) == (1, len(content))
    assert (place, "plain") in {(offset, pattern.form) for _, offset, pattern in found.hits}
    lengths = {pattern.length for pattern in SOUGHT.patterns}
    assert found.windows == sum(max(0, len(content) - length + 1) for length in lengths)


def test_what_is_not_there_is_not_found() -> None:
    content = random.Random(5).randbytes(8 << 20)
    almost = KEY[:-1].encode() + b"8" + PROVIDER.encode()[1:]
    found = search(content, almost, b"", KEY[:20].encode()).seen
    assert found.hits == []
    assert found.bytes == len(content) + len(almost) + 20
    assert found.candidates < 10


def test_the_quick_hash_is_the_same_one_by_one_and_in_bulk() -> None:
    hashes = Hashes(SALT)
    powers, inverses = hashes.powers(1000)
    assert all(int(power) * int(inverse) % (1 << 32) == 1 for power, inverse in zip(powers, inverses, strict=True))
    assert len({hashes.quick(bytes([number, 0])) for number in range(256)}) == 256
    assert hashes.quick(b"ab") != hashes.quick(b"ba")


def test_the_file_tells_no_text_and_no_two_are_alike() -> None:
    told = str(SOUGHT.members())
    assert KEY not in told
    assert PROVIDER.lower() not in told.lower()
    other = seek([("key id", KEY)])
    assert {one.slow for one in other.patterns}.isdisjoint({one.slow for one in SOUGHT.patterns})
    assert Sought.parse(SOUGHT.members()) == SOUGHT


def test_short_texts_are_left_out_and_counted() -> None:
    found = seek([("key id", "17"), ("key id", "x" * 2000), ("key id", KEY)])
    assert found.left_out == 2
    assert all(one.length >= sought.SHORTEST for one in found.patterns)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"scrypt": {"n": 2}},
        {"salt": "00"},
        {"left_out": -1},
        {"patterns": [{"kind": "k", "form": "f", "length": 7, "quick": 1, "slow": "00" * 32}]},
        {"patterns": [{"kind": "k", "form": "f", "length": 9, "quick": -1, "slow": "00" * 32}]},
        {"patterns": [{"kind": "k", "form": "f", "length": 9, "quick": 1, "slow": "00"}]},
        {"patterns": [{}]},
        {"patterns": [{}] * 5000},
        {"patterns": None},
    ],
)
def test_what_is_no_such_file_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"it |its |digest"):
        Sought.parse(SOUGHT.members() | change)


def test_a_file_made_to_look_like_the_text_does_not_hold_it_up_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sought, "MOST_CANDIDATES", 10)
    with pytest.raises(OverflowError, match="file 0"):
        search(KEY.encode() * 20)
