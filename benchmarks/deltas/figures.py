"""What one way of sending one step of one twin came to."""

from dataclasses import dataclass

OURS, CBT_ONLY, RESTIC = "Keysapart", "CBT only", "restic"
CONTESTANTS = (OURS, CBT_ONLY, RESTIC)
TOGETHER = "all steps"


@dataclass(frozen=True)
class Figure:
    """One cell of the table."""

    twin: str
    step: str
    grains_changed: int
    """Grains of 64 KiB that change tracking reports."""
    grains_differing: int
    """Those of them whose content is another than before, as the sync found."""
    contestant: str
    sent_bytes: int
    """Protocol bytes; what the repository grew by for restic, which has no network here."""
    seconds: float


def summed(figures: list[Figure], twin: str, contestant: str) -> Figure:
    """All steps of a twin together."""
    found = [one for one in figures if (one.twin, one.contestant) == (twin, contestant)]
    return Figure(
        twin,
        TOGETHER,
        sum(one.grains_changed for one in found),
        sum(one.grains_differing for one in found),
        contestant,
        sum(one.sent_bytes for one in found),
        sum(one.seconds for one in found),
    )
