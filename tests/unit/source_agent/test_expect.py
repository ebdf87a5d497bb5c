import pytest

from source_agent.expect import expect
from source_agent.measured import Measured
from source_agent.plan import DiskPlan, Kind, Plan

GIB = 1 << 30
FULL, DELTA, COMPARE = (
    Measured(10 * GIB, 5 * GIB, 100.0, None),
    Measured(GIB, GIB // 4, 20.0, 3600.0),
    Measured(40 * GIB, GIB // 8, 200.0, 7200.0),
)
ALL = {Kind.FULL: FULL, Kind.DELTA: DELTA, Kind.COMPARE: COMPARE}


def planned(*kinds, capacity=40 * GIB):
    disks = tuple(DiskPlan(2000 + place, kind, "rule", "cause", None, capacity) for place, kind in enumerate(kinds))
    whole = next(kind for kind in (Kind.COMPARE, Kind.DELTA, Kind.FULL) if kind in kinds)
    return Plan(whole, None if whole is Kind.FULL else 3, disks, keeps_change_ids=True)


# kinds, what was measured, age of the newest point, what the lists said; then bytes to read, words of the basis, bytes
# to send, seconds.
CASES = [
    ("first full", (Kind.FULL,), {}, None, None, 40 * GIB, "at most", None, None),
    ("full after a full", (Kind.FULL,), ALL, 60.0, None, 40 * GIB, "at most", 20 * GIB, 400.0),
    ("delta, nothing measured", (Kind.DELTA,), {}, 60.0, None, None, "would tell", None, None),
    ("delta after fulls only", (Kind.DELTA,), {Kind.FULL: FULL}, 60.0, None, None, "would tell", None, None),
    ("delta at the last rate", (Kind.DELTA,), ALL, 7200.0, None, 2 * GIB, "rate of change", GIB // 2, 40.0),
    ("a delta is never more than the disk", (Kind.DELTA,), ALL, 3.6e6, None, 40 * GIB, "rate", 10 * GIB, 800.0),
    ("delta, listed", (Kind.DELTA,), ALL, 7200.0, GIB // 2, GIB // 2, "lists of changed", GIB // 8, 10.0),
    ("compare, asked", (Kind.COMPARE,), ALL, 3600.0, 40 * GIB, 40 * GIB, "whole", GIB // 4, 200.0),
    ("compare, at the last delta's rate", (Kind.COMPARE,), ALL, 3600.0, None, 40 * GIB, "whole", GIB // 4, 200.0),
    (
        "compare after a compare",
        (Kind.COMPARE,),
        {Kind.COMPARE: COMPARE},
        1.0,
        None,
        40 * GIB,
        "whole",
        GIB // 8,
        200.0,
    ),
    ("compare after a full", (Kind.COMPARE,), {Kind.FULL: FULL}, 1.0, None, 40 * GIB, "whole", None, 400.0),
    ("compare beside a delta", (Kind.COMPARE, Kind.DELTA), ALL, 3600.0, None, 41 * GIB, "rate", GIB // 4, 205.0),
    ("a new disk beside a delta", (Kind.DELTA, Kind.FULL), {}, 60.0, 41 * GIB, 41 * GIB, "at most", None, None),
]


@pytest.mark.parametrize(("asked", "told"), [(case[1:5], case[5:]) for case in CASES], ids=[case[0] for case in CASES])
def test_figures(asked, told):
    kinds, measured, since, listed = asked
    read, basis, sent, seconds = told
    made = expect(planned(*kinds), measured, since_seconds=since, listed_bytes=listed)
    assert (made.bytes_to_read, made.bytes_to_send, made.seconds) == (read, sent, pytest.approx(seconds))
    assert basis in made.basis


def test_a_quiet_delta_takes_as_long_as_the_last_quiet_one():
    quiet = {Kind.DELTA: Measured(0, 0, 2.0, 60.0)}
    made = expect(planned(Kind.DELTA), quiet, since_seconds=60.0)
    assert (made.bytes_to_read, made.bytes_to_send, made.seconds) == (0, None, 2.0)


def test_the_unknown_is_called_so():
    assert expect(planned(Kind.DELTA), {}, since_seconds=1.0).sentence() == (
        "to read: unknown (a snapshot would tell: no delta was measured yet); to send: unknown; takes: unknown"
    )
    assert expect(planned(Kind.COMPARE), ALL, since_seconds=3600.0).sentence() == (
        "to read: 40960.0 MiB (the whole disks); to send: about 256.0 MiB; takes: about 200 s"
    )
