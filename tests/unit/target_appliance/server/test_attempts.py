import pytest

from common.errors import AccessDeniedError, LimitExceededError, StoreError
from target_appliance.server.attempts import Attempts, Rates
from tests.fakes.clock import ManualClock

RATES = Rates(peer_burst=2, peer_seconds=10, all_burst=5, all_seconds=1)


def fails(attempts: Attempts, peer: str) -> None:
    with pytest.raises(AccessDeniedError), attempts.attempt(peer):
        raise AccessDeniedError("no", subject="pairing", next_step="none")


def limited(attempts: Attempts, peer: str) -> bool:
    try:
        with attempts.attempt(peer):
            return False
    except LimitExceededError:
        return True


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("ipv4:192.0.2.1:1", "ipv4:192.0.2.1:2"),
        ("ipv6:%5B2001:db8::1%5D:1", "ipv6:%5B2001:db8::2%5D:2"),
        ("ipv6:[2001:db8::1]:1", "ipv6:[2001:db8:0:0:1::]:2"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:1", "ipv4:192.0.2.1:9"),
    ],
)
def test_failures_count_by_address_and_not_by_port(one: str, same: str) -> None:
    attempts = Attempts(ManualClock(), RATES)
    fails(attempts, one)
    fails(attempts, same)
    assert limited(attempts, one)
    assert not limited(attempts, "ipv4:198.51.100.1:1")
    assert not limited(attempts, "ipv6:[2001:db8:1::1]:1")


def test_time_gives_attempts_back() -> None:
    clock = ManualClock()
    attempts = Attempts(clock, RATES)
    fails(attempts, "ipv4:192.0.2.1:1")
    fails(attempts, "ipv4:192.0.2.1:1")
    clock.advance(9)
    assert limited(attempts, "ipv4:192.0.2.1:1")
    clock.advance(2)
    assert not limited(attempts, "ipv4:192.0.2.1:1")


def test_many_addresses_share_a_bound() -> None:
    attempts = Attempts(ManualClock(), RATES)
    for number in range(5):
        fails(attempts, f"ipv4:192.0.2.{number}:1")
    assert limited(attempts, "ipv4:198.51.100.1:1")


def test_what_is_not_the_strangers_fault_costs_nothing() -> None:
    attempts = Attempts(ManualClock(), RATES)
    for _ in range(9):
        with pytest.raises(StoreError), attempts.attempt("ipv4:192.0.2.1:1"):
            raise StoreError("no", subject="catalog", next_step="none")
        with attempts.attempt("ipv4:192.0.2.1:1"):
            pass
