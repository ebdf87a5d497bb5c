"""What retention promises of any points and any policy."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from target_appliance.retention.policy import COUNTS, Policy
from target_appliance.retention.rules import Hold, Point, decide

NOW = 1_795_521_600
SPAN = 40 * 86400
HOLD = [Hold("case-17", "court order")]

times = st.integers(NOW - SPAN, NOW + 86400) | st.integers(0, NOW)
locks = st.none() | st.integers(NOW - 86400, NOW + 86400)
counts = st.fixed_dictionaries({name: st.integers(0, 5) for name in COUNTS})


@st.composite
def histories(draw, *, rising=False):
    drawn = draw(st.lists(st.tuples(times, locks, st.booleans()), max_size=25))
    if rising:
        drawn = [(time, *rest) for time, (_, *rest) in zip(sorted(one[0] for one in drawn), drawn, strict=True)]
    return [Point(number, time, lock, use and number % 5 == 0) for number, (time, lock, use) in enumerate(drawn, 1)]


@st.composite
def policies(draw, *, interval=True):
    chosen = draw(counts)
    within = draw(st.sampled_from((0, 3600, 86400, 10 * 86400)))
    gap = draw(st.sampled_from((0, 900, 5400, 86400))) if chosen["last"] and interval else 0
    policy = Policy(**chosen, within=within, min_interval=gap)
    return policy if policy.members() else Policy(last=1)


holds = st.dictionaries(st.integers(1, 25), st.just(HOLD), max_size=4)


def kept(points, policy, held=None, now=NOW):
    return {one.number for one in decide(points, policy, held or {}, now) if one.kept}


@given(histories(), policies(), holds)
def test_every_point_has_a_verdict_with_reasons(points, policy, held):
    found = decide(points, policy, held, NOW)

    assert [one.number for one in found] == [point.number for point in points]
    assert all(one.reasons for one in found)


@given(histories(), policies(), holds)
def test_what_must_never_go_is_kept(points, policy, held):
    left = kept(points, policy, held)
    come = [point for point in points if point.time <= NOW]
    newest = max((point.time for point in come), default=0)

    for point in points:
        locked = point.locked_until is not None and point.locked_until > NOW
        inside = policy.within and point.time <= NOW and newest - point.time <= policy.within
        if point is points[-1] or locked or point.in_use or point.number in held or point.time > NOW or inside:
            assert point.number in left


@given(histories(), policies(), holds)
def test_once_what_goes_is_gone_nothing_more_goes(points, policy, held):
    left = kept(points, policy, held)

    assert kept([point for point in points if point.number in left], policy, held) == left


@given(histories(), policies(), holds, st.integers(0, 24))
def test_also_when_only_some_of_it_is_gone(points, policy, held, some):
    left = kept(points, policy, held)
    gone = [point.number for point in points if point.number not in left][:some]

    assert kept([point for point in points if point.number not in gone], policy, held) == left


@given(histories(), policies(interval=False), st.sampled_from((*COUNTS, "within")), st.integers(1, 5), holds)
def test_a_more_generous_policy_keeps_what_the_other_keeps(points, policy, rule, more, held):
    generous = dataclasses.replace(policy, **{rule: getattr(policy, rule) + more})

    assert kept(points, policy, held) <= kept(points, generous, held)


@given(histories(rising=True), policies(), st.integers(0, 3600))
def test_a_point_more_drops_none_of_a_period_that_has_begun(points, policy, later):
    """Whoever floods a replica displaces nothing by it: what a calendar rule keeps stays until the next period."""
    points = [dataclasses.replace(point, time=min(point.time, NOW - 7200)) for point in points]
    if not points:
        return
    last = points[-1]
    time = min(last.time + later, last.time // 3600 * 3600 + 3599)
    calendar = dataclasses.replace(policy, last=0, min_interval=0, within=0)
    newest = last.number
    more = [*points, Point(newest + 1, time)]

    assert kept(points, calendar) - {newest} <= kept(more, calendar)


@given(histories(rising=True), policies(), st.lists(st.integers(0, SPAN), max_size=10))
def test_no_number_of_points_drops_one_inside_the_span(points, policy, steps):
    policy = dataclasses.replace(policy, within=policy.within or 86400)
    more = list(points)
    for step in steps:
        more.append(Point(len(more) + 1, max([NOW - SPAN, *(point.time for point in more)]) + step % 600))
    now = max([NOW, *(point.time for point in more)])
    newest = max((point.time for point in more), default=0)

    inside = {point.number for point in points if newest - point.time <= policy.within}
    assert inside <= kept(more, policy, now=now)


@given(histories(), policies(), holds, st.integers(0, 10 * 365 * 86400))
def test_time_alone_drops_nothing_but_what_was_locked_or_still_to_come(points, policy, held, later):
    points = [dataclasses.replace(point, time=min(point.time, NOW), locked_until=None) for point in points]

    assert kept(points, policy, held) == kept(points, policy, held, NOW + later)
