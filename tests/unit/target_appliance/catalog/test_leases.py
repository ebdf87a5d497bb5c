import threading
from typing import TYPE_CHECKING

import pytest

from common.clock import SystemClock
from common.errors import BusyError, FencedError
from target_appliance.catalog.catalog import Catalog
from tests.fakes.clock import ManualClock
from tests.unit.target_appliance.catalog.rows import ACME, AGENT1, AGENT2, GLOBEX, VM1, VM2, sync

if TYPE_CHECKING:
    from target_appliance.catalog.model import Lease

TTL = 60.0


@pytest.fixture(autouse=True)
def _tenants(catalog: Catalog) -> None:
    catalog.add_tenant(ACME)
    catalog.add_tenant(GLOBEX)


def test_a_fresh_lease_holds_until_it_lapses(catalog: Catalog, clock: ManualClock) -> None:
    lease = catalog.take_lease(ACME, VM1, AGENT1, sync(1), TTL)
    clock.advance(TTL - 0.1)
    catalog.check(lease)
    clock.advance(0.1)
    with pytest.raises(FencedError, match="lapsed"):
        catalog.check(lease)


def test_another_agent_is_told_until_when(catalog: Catalog, clock: ManualClock) -> None:
    lease = catalog.take_lease(ACME, VM1, AGENT1, sync(1), TTL)
    for ask in (
        lambda: catalog.require_free(ACME, VM1, AGENT2),
        lambda: catalog.take_lease(ACME, VM1, AGENT2, sync(2), TTL),
    ):
        with pytest.raises(BusyError) as refused:
            ask()
        assert AGENT1 in refused.value.message
        assert "2026-11-24 12:01:00 UTC" in refused.value.message
    catalog.require_free(ACME, VM1, AGENT1)
    catalog.require_free(ACME, VM2, AGENT2)
    catalog.check(lease)


def test_the_same_agent_takes_its_own_lease_over_at_once(catalog: Catalog) -> None:
    old = catalog.take_lease(ACME, VM1, AGENT1, sync(1), TTL)
    new = catalog.take_lease(ACME, VM1, AGENT1, sync(2), TTL)
    assert new.token > old.token
    catalog.check(new)
    for use in (catalog.check, lambda lease: catalog.renew(lease, TTL)):
        with pytest.raises(FencedError, match="newer sync"):
            use(old)


def test_a_superseded_sync_cannot_release_its_successor(catalog: Catalog) -> None:
    old = catalog.take_lease(ACME, VM1, AGENT1, sync(1), TTL)
    new = catalog.take_lease(ACME, VM1, AGENT1, sync(2), TTL)
    catalog.release(old)
    catalog.check(new)


def test_a_lapsed_or_released_lease_is_free_for_another_agent(catalog: Catalog, clock: ManualClock) -> None:
    first = catalog.take_lease(ACME, VM1, AGENT1, sync(1), TTL)
    clock.advance(TTL)
    second = catalog.take_lease(ACME, VM1, AGENT2, sync(2), TTL)
    catalog.release(second)
    with pytest.raises(FencedError):
        catalog.check(second)
    with pytest.raises(FencedError):
        catalog.renew(second, TTL)
    third = catalog.take_lease(ACME, VM1, AGENT1, sync(3), TTL)
    assert first.token < second.token < third.token


def test_renewing_moves_the_end(catalog: Catalog, clock: ManualClock) -> None:
    lease = catalog.take_lease(ACME, VM1, AGENT1, sync(1), TTL)
    clock.advance(TTL - 1)
    lease = catalog.renew(lease, TTL)
    clock.advance(TTL - 1)
    catalog.check(lease)


def test_a_lapsed_lease_that_nobody_took_may_be_renewed(catalog: Catalog, clock: ManualClock) -> None:
    lease = catalog.take_lease(ACME, VM1, AGENT1, sync(1), TTL)
    clock.advance(TTL * 2)
    catalog.check(catalog.renew(lease, TTL))


def test_leases_of_other_replicas_and_tenants_do_not_meet(catalog: Catalog) -> None:
    held = [
        catalog.take_lease(ACME, VM1, AGENT1, sync(1), TTL),
        catalog.take_lease(ACME, VM2, AGENT2, sync(2), TTL),
        catalog.take_lease(GLOBEX, VM1, AGENT2, sync(3), TTL),
    ]
    for lease in held:
        catalog.check(lease)
    assert catalog.live_syncs() == {sync(1), sync(2), sync(3)}
    catalog.release(held[0])
    assert catalog.live_syncs() == {sync(2), sync(3)}


@pytest.mark.parametrize("seconds", [-86_400, 86_400, -315_360_000, 315_360_000])
def test_tokens_rise_whatever_the_clock_does(catalog: Catalog, clock: ManualClock, seconds: float) -> None:
    tokens = [catalog.take_lease(ACME, VM1, AGENT1, sync(1), TTL).token]
    clock.jump(seconds)
    tokens += [catalog.take_lease(ACME, VM1, AGENT1, sync(number), TTL).token for number in (2, 3)]
    clock.jump(-seconds)
    tokens.append(catalog.take_lease(ACME, VM1, AGENT1, sync(4), TTL).token)
    assert tokens == sorted(set(tokens))


def test_tokens_rise_over_the_loss_of_the_catalog(url: str, tmp_path, clock: ManualClock) -> None:
    with Catalog.open(url, clock) as catalog:
        for number in range(20):
            old = catalog.take_lease(ACME, VM1, AGENT1, sync(number), TTL)
    (tmp_path / "catalog.sqlite").unlink()
    clock.advance(1)
    with Catalog.open(url, clock) as catalog:
        catalog.add_tenant(ACME)
        assert catalog.take_lease(ACME, VM1, AGENT1, sync(99), TTL).token > old.token


def test_of_many_agents_racing_for_a_replica_one_wins(url: str) -> None:
    agents = [f"{number:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" for number in range(8)]
    won: list[Lease] = []
    lost: list[BusyError] = []
    start = threading.Barrier(len(agents))
    # Each racer has connections of its own, as separate worker processes would.
    catalogs = [Catalog.open(url, SystemClock()) for _ in agents]

    def race(catalog: Catalog, agent: str, number: int) -> None:
        start.wait()
        try:
            won.append(catalog.take_lease(ACME, VM1, agent, sync(number), TTL))
        except BusyError as error:
            lost.append(error)

    threads = [
        threading.Thread(target=race, args=(catalog, agent, number))
        for number, (catalog, agent) in enumerate(zip(catalogs, agents, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    catalogs[0].check(won[0])
    for catalog in catalogs:
        catalog.close()


def test_of_one_agent_racing_with_itself_the_last_token_wins(url: str) -> None:
    taken: list[Lease] = []
    start = threading.Barrier(8)
    with Catalog.open(url, SystemClock()) as catalog:

        def race(number: int) -> None:
            start.wait()
            taken.append(catalog.take_lease(ACME, VM1, AGENT1, sync(number), TTL))

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tokens = sorted(lease.token for lease in taken)
        assert len(set(tokens)) == 8
        for lease in taken:
            if lease.token == tokens[-1]:
                catalog.check(lease)
            else:
                with pytest.raises(FencedError):
                    catalog.check(lease)
