import os

import pytest

from common.grain import GRAIN_BYTES
from source_agent.reduce.guest_encryption import TELLING_GRAINS, schemes, suspicion

LUKS = b"LUKS\xba\xbe\x00\x02".ljust(GRAIN_BYTES, b"\0")
BITLOCKER = b"\xeb\x58\x90-FVE-FS-\x00".ljust(GRAIN_BYTES, b"\0")
PLAIN = os.urandom(GRAIN_BYTES)


def test_headers_at_the_start_of_a_grain():
    assert schemes(PLAIN + LUKS + PLAIN) == {"LUKS"}
    assert schemes(memoryview(BITLOCKER + LUKS)) == {"LUKS", "BitLocker"}
    assert schemes(PLAIN) == frozenset()
    assert schemes(b"\0" * 512 + LUKS[:-512]) == frozenset()


@pytest.mark.parametrize(
    ("found", "sent", "raw", "words"),
    [
        (frozenset({"LUKS"}), 0, 0, "LUKS header"),
        (frozenset(), TELLING_GRAINS, TELLING_GRAINS, "did not shrink"),
        (frozenset(), TELLING_GRAINS - 1, TELLING_GRAINS - 1, None),
        (frozenset(), 2 * TELLING_GRAINS, TELLING_GRAINS, None),
    ],
)
def test_what_is_said(found, sent, raw, words):
    said = suspicion(found, sent, raw)
    assert said is None if words is None else words in said
