"""A grain record is what its digest says, or it is refused. Before anything of it is sealed.

LZ4 carries no integrity of its own (nearly all altered blocks decode to something), so the digest of the decoded
64 KiB decides, and the length must come out exactly.
"""

import lz4.block

from common.errors import ProtocolError
from common.grain import GRAIN_BYTES, ZERO_DIGEST, GrainKind, digest
from common.sync.events import GrainRecord


def check_grain(record: GrainRecord) -> None:
    """Decode ``record`` and compare its digest; memory is bounded by one grain.

    Raises:
        ProtocolError: the data does not decode to 64 KiB with this digest.
    """
    match record.kind:
        case GrainKind.ZERO:
            good = record.digest == ZERO_DIGEST
        case GrainKind.RAW:
            good = digest(record.data) == record.digest
        case GrainKind.LZ4:
            good = digest(_decoded(record)) == record.digest
    if not good:
        raise _altered(record)


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
