import os
import random

import lz4.block
import pytest

from common.errors import ProtocolError
from common.grain import GRAIN_BYTES, ZERO_DIGEST, GrainKind, digest
from common.grain_check import check_grain
from common.sync.events import GrainRecord

TEXT = b"keysapart " * 6553 + b"......"
RANDOM = os.urandom(GRAIN_BYTES)
PACKED = lz4.block.compress(TEXT, store_size=False)

GOOD = {
    "zero": GrainRecord(1, GrainKind.ZERO, ZERO_DIGEST, b""),
    "raw": GrainRecord(1, GrainKind.RAW, digest(RANDOM), RANDOM),
    "lz4": GrainRecord(1, GrainKind.LZ4, digest(TEXT), PACKED),
}
BAD = {
    "zero with another digest": GOOD["zero"]._replace(digest=digest(RANDOM)),
    "raw altered": GOOD["raw"]._replace(data=RANDOM[:-1] + bytes([RANDOM[-1] ^ 1])),
    "lz4 digest of another grain": GOOD["lz4"]._replace(digest=digest(RANDOM)),
    "lz4 that decodes short": GOOD["lz4"]._replace(
        data=lz4.block.compress(TEXT[:-1], store_size=False), digest=digest(TEXT[:-1])
    ),
    "lz4 that decodes long": GOOD["lz4"]._replace(
        data=lz4.block.compress(TEXT * 4, store_size=False), digest=digest(TEXT * 4)
    ),
    "no lz4 at all": GOOD["lz4"]._replace(data=b"\xff" * 100),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name):
    check_grain(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    with pytest.raises(ProtocolError, match="grain 1 arrived altered"):
        check_grain(BAD[name])


def test_no_mutant_passes():
    rng = random.Random(11)
    for _ in range(2000):
        mutant = bytearray(PACKED)
        for _ in range(rng.randint(1, 4)):
            mutant[rng.randrange(len(mutant))] ^= rng.randint(1, 255)
        if bytes(mutant) == PACKED:
            continue
        with pytest.raises(ProtocolError):
            check_grain(GOOD["lz4"]._replace(data=bytes(mutant)))
