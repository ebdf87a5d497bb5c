"""Policies as they are typed and kept."""

import pytest

from common.errors import InvalidInputError
from target_appliance.retention.policy import Policy, parse, span, words


@pytest.mark.parametrize(
    ("typed", "policy"),
    [
        ("last=10", Policy(last=10)),
        ("keep-last=10 keep-hourly=24", Policy(last=10, hourly=24)),
        (
            "daily=7 weekly=5 monthly=12 yearly=3 within=3d",
            Policy(daily=7, weekly=5, monthly=12, yearly=3, within=3 * 86400),
        ),
        ("last=4 min-interval=15m", Policy(last=4, min_interval=900)),
        ("within=1y2w3d4h5m", Policy(within=(365 + 14 + 3) * 86400 + 4 * 3600 + 300)),
    ],
)
def test_what_is_typed(typed, policy):
    assert parse([typed]) == policy
    assert parse(typed.split()) == policy
    assert parse([str(policy)]) == policy
    assert Policy.of_members(policy.members()) == policy


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "last",
        "last=",
        "last=0",
        "last=-1",
        "last=1.5",
        "last=1000000",
        "last=٣",
        "last=1 last=2",
        "keep-last=1 last=2",
        "ever=1",
        "within=3",
        "within=0d",
        "within=3s",
        "within=d",
        "within=1001y",
        "min-interval=5m",
        "daily=3 min-interval=5m",
        "daily=3, weekly=2",
    ],
)
def test_what_cannot_be_is_refused(typed):
    with pytest.raises(InvalidInputError) as caught:
        parse([typed])
    assert "last=10" in caught.value.next_step


@pytest.mark.parametrize(
    "members", [{}, {"last": 0}, {"last": True}, {"last": "3"}, {"ever": 1}, {"last": -1}, {"min_interval": 60}]
)
def test_what_no_release_writes_is_no_policy(members):
    with pytest.raises(ValueError, match=r"\w"):
        Policy.of_members(members)


def test_lengths_of_time():
    assert [words(value) for value in (86400, 2 * 86400, 3600, 7200, 5400, 60, 61)] == [
        "1 day",
        "2 days",
        "1 hour",
        "2 hours",
        "90 minutes",
        "1 minute",
        "61 seconds",
    ]
    assert span("90m") == 5400
