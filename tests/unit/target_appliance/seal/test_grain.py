"""Sealed grains: open at their own place only, whatever is altered."""

import os

import lz4.block
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.grain import GRAIN_BYTES, GrainKind
from common.ids import DiskKey, ReplicaId
from target_appliance.seal.grain import OVERHEAD_BYTES, GrainOpener, GrainSealer, UnsealError
from target_appliance.seal.keys import DataKey

REPLICA = ReplicaId("4c4c4544-0051-3010-8052-b4c04f564231")
KEY = DataKey(REPLICA, DiskKey(2000), 1, bytes(range(32)))
PLAIN = b"0123456789abcdef" * 4096
PACKED = lz4.block.compress(PLAIN, store_size=False)


def sealed(kind=GrainKind.RAW, data=PLAIN, key=KEY, point=3, grain=77):
    out = bytearray(len(data) + OVERHEAD_BYTES)
    GrainSealer(key, point).seal_into(memoryview(out), grain, kind, data, os.urandom(12))
    return bytes(out)


@pytest.mark.parametrize(("kind", "data"), [(GrainKind.RAW, PLAIN), (GrainKind.LZ4, PACKED)])
def test_round_trip(kind, data):
    payload = sealed(kind, data)

    assert GrainOpener(KEY).unseal(payload, 77, 3) == PLAIN
    assert GrainOpener(KEY).unseal(memoryview(payload), 77, 9) == PLAIN
    assert data not in payload


def test_one_sealer_seals_short_after_long():
    sealer = GrainSealer(KEY, 1)
    for kind, data in [(GrainKind.RAW, PLAIN), (GrainKind.LZ4, PACKED), (GrainKind.RAW, PLAIN)]:
        out = bytearray(len(data) + OVERHEAD_BYTES)
        sealer.seal_into(memoryview(out), 5, kind, data, os.urandom(12))
        assert GrainOpener(KEY).unseal(bytes(out), 5, 1) == PLAIN


@pytest.mark.parametrize(
    "key",
    [
        DataKey(REPLICA, DiskKey(2001), 1, KEY.value),
        DataKey(ReplicaId("4c4c4544-0051-3010-8052-b4c04f564232"), DiskKey(2000), 1, KEY.value),
        DataKey(REPLICA, DiskKey(2000), 1, bytes(32)),
    ],
    ids=["disk", "replica", "dek"],
)
def test_it_opens_nowhere_else(key):
    with pytest.raises(UnsealError, match="tag"):
        GrainOpener(key).unseal(sealed(), 77, 3)


def test_it_opens_at_no_other_index_or_point():
    payload = sealed()
    opener = GrainOpener(KEY)

    with pytest.raises(UnsealError, match="tag"):
        opener.unseal(payload, 78, 3)
    with pytest.raises(UnsealError, match="key point 3 cannot be"):
        opener.unseal(payload, 77, 2)
    with pytest.raises(UnsealError, match="tag"):
        opener.unseal((2).to_bytes(4, "little") + payload[4:], 77, 3)
    with pytest.raises(UnsealError, match="key point 0 cannot be"):
        opener.unseal(bytes(4) + payload[4:], 77, 3)


def test_every_flipped_byte_shows():
    payload = sealed(GrainKind.LZ4, PACKED)
    opener = GrainOpener(KEY)

    for place in range(len(payload)):
        altered = bytearray(payload)
        altered[place] ^= 0x40
        with pytest.raises(UnsealError):
            opener.unseal(bytes(altered), 77, 3)


@pytest.mark.parametrize("length", [0, 1, 32, 33])
def test_a_cut_payload_shows(length):
    with pytest.raises(UnsealError):
        GrainOpener(KEY).unseal(sealed()[:length], 77, 3)


def test_a_long_payload_shows():
    with pytest.raises(UnsealError, match="length"):
        GrainOpener(KEY).unseal(sealed() + b"x", 77, 3)


@pytest.mark.parametrize(
    ("plain", "what"),
    [
        (b"\x03" + PLAIN, "codec 3"),
        (b"\x00" + PLAIN, "codec 0"),
        (b"\x01" + PLAIN[:-1], "decodes to 65535"),
        (b"\x02" + b"nonsense", "does not decode"),
        (b"\x02" + lz4.block.compress(PLAIN[:100], store_size=False), "decodes to 100"),
        (b"\x02" + lz4.block.compress(bytes(GRAIN_BYTES + 1), store_size=False), "does not decode"),
    ],
)
def test_what_a_key_holder_sealed_wrongly_is_refused(plain, what):
    nonce = bytes(12)
    context = KEY.binding(3) + (77).to_bytes(4, "little")
    payload = (3).to_bytes(4, "little") + nonce + AESGCM(KEY.grain_key(3)).encrypt(nonce, plain, context)

    with pytest.raises(UnsealError, match=what):
        GrainOpener(KEY).unseal(payload, 77, 3)


def test_keys_differ_by_purpose_and_place():
    keys = {
        derive(point)
        for key in (KEY, DataKey(REPLICA, DiskKey(2001), 1, KEY.value))
        for point in (1, 2)
        for derive in (key.grain_key, key.manifest_key, key.root_key, key.record_key)
    }

    assert len(keys) == 16
    assert KEY.value.hex() not in repr(KEY)
    assert repr(KEY.value) not in repr(KEY)
