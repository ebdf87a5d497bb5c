"""A grain record is what its digest says, or it is refused. Before anything of it is kept.

LZ4 carries no integrity of its own (nearly all altered blocks decode to something), so the digest of the decoded
64 KiB decides, and the length must come out exactly.
"""

import lz4.block

from common.errors import ProtocolError
from common.grain import GRAIN_BYTES, ZERO_DIGEST, GrainKind, digest
from common.sync.events import GrainRecord


def check_grain(record: GrainRecord) -> bytes | memoryview | None:
    """The 64 KiB of ``record``, whose digest was compared; None for zeros. Memory is bounded by one grain.

    Raises:
        ProtocolError: the data does not decode to 64 KiB with this digest.
    """
    if record.kind is GrainKind.ZERO:
        if record.digest != ZERO_DIGEST:
            raise _altered(record)
        return None
    plaintext = record.data if record.kind is GrainKind.RAW else _decoded(record)
    if digest(plaintext) != record.digest:
        raise _altered(record)
    return plaintext


def _decoded(record: GrainRecord) -> bytes:
    try:
        plaintext: bytes = lz4.block.decompress(record.data, uncompressed_size=GRAIN_BYTES)
    except lz4.block.LZ4BlockError:
        raise _altered(record) from None
    if len(plaintext) != GRAIN_BYTES:
        raise _altered(record)
    return plaintext


def _altered(record: GrainRecord) -> ProtocolError:
    return ProtocolError(
        f"grain {record.grain} arrived altered",
        subject=f"grain {record.grain}",
        next_step="sync again; if it happens twice, test the memory and the network card of both machines",
    )
