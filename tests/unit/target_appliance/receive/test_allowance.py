"""What tenants may take: replicas, room, rate."""

from dataclasses import replace

import pytest

from common.errors import FencedError, LimitExceededError, NotFoundError
from target_appliance.catalog.model import TenantLimits, TenantRow, Usage
from target_appliance.receive.allowance import FRESH_SECONDS, Allowance
from tests.fakes.clock import ManualClock

MIB = 1 << 20


class _Catalog:
    def __init__(self):
        self.limits = {"acme": TenantLimits(), "rival": TenantLimits()}
        self.used = {"acme": Usage(frozenset(), 0), "rival": Usage(frozenset(), 0)}

    def tenant(self, tenant):
        if tenant not in self.limits:
            raise NotFoundError("none", subject=tenant, next_step="-")
        return TenantRow(tenant, self.limits[tenant])

    def usage(self, tenant):
        return self.used[tenant]


@pytest.fixture
def catalog():
    return _Catalog()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def allowance(catalog, clock):
    return Allowance(catalog, clock)


def _never():
    raise AssertionError("nobody should wait")


def test_no_limits_no_refusals(allowance):
    shares = [allowance.begin("acme", f"vm{number}") for number in range(50)]
    for share in shares:
        share.add(1 << 40, _never)
    assert allowance.streams("acme", 16) == 16


def test_streams_are_the_smaller_of_two_bounds(allowance, catalog):
    catalog.limits["acme"] = TenantLimits(max_streams=4)
    assert (allowance.streams("acme", 16), allowance.streams("acme", 2), allowance.streams("rival", 16)) == (4, 2, 16)


def test_one_replica_too_many(allowance, catalog):
    catalog.limits["acme"] = TenantLimits(max_vms=2)
    catalog.used["acme"] = Usage(frozenset({"old"}), 0)
    first = allowance.begin("acme", "new")
    again = allowance.begin("acme", "new")
    allowance.begin("acme", "old")
    with pytest.raises(LimitExceededError, match="2 replicas"):
        allowance.begin("acme", "third")
    allowance.begin("rival", "third")
    first.release()
    first.release()
    with pytest.raises(LimitExceededError):
        allowance.begin("acme", "third")
    again.release()
    allowance.begin("acme", "third")


def test_the_quota_counts_points_and_what_is_under_way(allowance, catalog):
    catalog.limits["acme"] = TenantLimits(quota_bytes=10 * MIB)
    catalog.used["acme"] = Usage(frozenset({"a"}), 4 * MIB)
    one, two = allowance.begin("acme", "a"), allowance.begin("acme", "b")
    one.add(3 * MIB, _never)
    two.add(3 * MIB, _never)
    for share in (one, two):
        with pytest.raises(LimitExceededError, match="quota of 10 MiB"):
            share.add(1, _never)
    allowance.begin("acme", "c")  # a delta of nothing is no reason to refuse
    two.release()
    one.add(3 * MIB, _never)
    catalog.used["acme"] = Usage(frozenset({"a"}), 11 * MIB)
    one.release()
    with pytest.raises(LimitExceededError):
        allowance.begin("acme", "a")


def test_a_change_is_heard_within_seconds(allowance, catalog, clock):
    share = allowance.begin("acme", "a")
    share.add(MIB, _never)
    catalog.limits["acme"] = replace(catalog.limits["acme"], quota_bytes=1)
    clock.advance(FRESH_SECONDS)
    with pytest.raises(LimitExceededError):
        share.add(1, _never)


def test_data_come_at_the_tenants_rate_over_all_its_syncs(allowance, catalog, clock):
    catalog.limits["acme"] = TenantLimits(bandwidth_bytes=MIB)
    shares = [allowance.begin("acme", name) for name in "abc"]
    waited, before = [], clock.monotonic()
    for _ in range(4):
        for share in shares:
            share.add(MIB, lambda: waited.append(1))
    assert clock.monotonic() - before == pytest.approx(11, abs=0.01)
    assert len(waited) >= 44
    allowance.begin("rival", "a").add(1 << 30, _never)


def test_a_sync_that_ends_waits_no_more(allowance, catalog):
    catalog.limits["acme"] = TenantLimits(bandwidth_bytes=MIB)
    share = allowance.begin("acme", "a")
    share.add(100 * MIB, _never)

    def over():
        raise FencedError("over", subject="sync", next_step="-")

    with pytest.raises(FencedError):
        share.add(1, over)


def test_nobody_begins_for_a_tenant_that_is_none(allowance):
    with pytest.raises(NotFoundError):
        allowance.begin("nobody", "a")
