"""Whether the guest encrypts its disks itself: then little shrinks, and small changes inside make large deltas.

Seen from two sides: by the header that volume encryption writes at the start of a partition, and by how much of what
was sent did not shrink. Only the name of a scheme leaves this module, never a byte of the guest's.
"""

from typing import Final

from common.grain import GRAIN_BYTES

_LUKS: Final = b"LUKS\xba\xbe"
_BITLOCKER: Final = b"-FVE-FS-"
_BITLOCKER_AT: Final = 3
_HEAD: Final = _BITLOCKER_AT + len(_BITLOCKER)

TELLING_GRAINS: Final = 1024
"""Fewer grains (64 MiB) say nothing: a film or an archive does not shrink either."""
TELLING_SHARE: Final = 0.95


def schemes(grains: bytes | bytearray | memoryview) -> frozenset[str]:
    """Names of the schemes whose header stands at the start of one of ``grains``, which are whole.

    Partitions start at whole MiB, so a header is never inside a grain. LUKS: its on-disk format's magic; BitLocker: the
    signature in place of a file system's name in the boot sector.
    """
    heads = b"".join([grains[at : at + _HEAD] for at in range(0, len(grains), GRAIN_BYTES)])
    if _LUKS not in heads and _BITLOCKER not in heads:  # as good as always
        return frozenset()
    found = set()
    for at in range(0, len(heads), _HEAD):
        head = heads[at : at + _HEAD]
        if head.startswith(_LUKS):
            found.add("LUKS")
        elif head.endswith(_BITLOCKER):
            found.add("BitLocker")
    return frozenset(found)


def suspicion(schemes_found: frozenset[str], grains_sent: int, grains_raw: int) -> str | None:
    """What there is to say of a disk, in words; None when nothing is.

    Args:
        schemes_found: by header.
        grains_sent: with data, in one sync.
        grains_raw: of these, those that did not shrink.
    """
    if schemes_found:
        return f"the guest encrypts it itself ({', '.join(sorted(schemes_found))} header)"
    if grains_sent >= TELLING_GRAINS and grains_raw >= TELLING_SHARE * grains_sent:
        return f"{grains_raw} of {grains_sent} grains did not shrink: the guest may encrypt it itself"
    return None
