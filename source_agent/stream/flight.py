"""How much is under way: all that the window allows, until the link breaks.

What a cut costs is what was under way, so after the first one that is bounded by a share of what the link has borne
since the last: one grain at first, more as acks come. A link that dies after each MiB then loses half a grain of it on
average; one that bears much is soon as fast as before, because the share grows with every ack.
"""

from typing import Final

from common.grain import GRAIN_BYTES

BATCH_BYTES: Final = 1 << 20
"""Data at which a batch is sent: frames of about 1 MiB move fastest through gRPC."""

_SHARE: Final = 16
"""Of what the link bore since the last cut, one part in so many may be under way."""


class Flight:
    """One link's; shared by its streams, which may race: every value it takes is a good one."""

    def __init__(self) -> None:
        self.broken = False
        """Whether the link was cut; streams want an ack for each batch then."""
        self._borne = 0

    @property
    def under_way(self) -> int | None:
        """Most bytes that may be sent and not kept; None while nothing but the window bounds them."""
        return max(self._borne // _SHARE, GRAIN_BYTES) if self.broken else None

    @property
    def batch_bytes(self) -> int:
        """Data at which a batch is sent: two batches under way keep the link busy."""
        return BATCH_BYTES if not self.broken else max(GRAIN_BYTES, min(BATCH_BYTES, self._borne // (2 * _SHARE)))

    def cut(self) -> None:
        """The link broke."""
        self.broken = True
        self._borne = 0

    def kept(self, data_bytes: int) -> None:
        """So many more bytes have arrived for good."""
        self._borne += data_bytes
