"""200 lives of a VM at random: whatever happens between two syncs, no point ever holds a wrong byte.

A failing life is named by its seed; ``KEYSAPART_SEED=<seed>`` lives that one alone.
"""

import os
import random
from collections import Counter

import pytest

from target_appliance.recovery import names
from tests.end_to_end.random_guest import SEED_VARIABLE
from tests.fakes.history import AGENT, History
from tests.fakes.served import served

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("uncovered")]

LIVES = 200
STEPS = 22


@pytest.fixture
def agent(tmp_path, monkeypatch):
    # Lives of weeks are over in a second, and all are one tenant's.
    monkeypatch.setattr("target_appliance.audit.recorder.MOST_ACTS", 1 << 30)
    with served(tmp_path) as server:
        target = server.target(server.admit("acme", AGENT))
        yield server, target
        target.close()


def test_no_life_leads_to_a_wrong_byte(tmp_path, agent):
    server, target = agent
    told = os.environ.get(SEED_VARIABLE)
    first = random.SystemRandom().randrange(1 << 30)
    seeds = [int(told)] if told else range(first, first + LIVES)
    kinds = Counter()
    for seed in seeds:
        life = History(tmp_path / str(seed), server, target, seed)
        try:
            life.live(STEPS)
        except BaseException:
            print(f"replay with {SEED_VARIABLE}={seed}: {' '.join(life.told)}")
            raise
        kinds.update(life.kinds)
        kinds["resumed"] += life.resumed
        kinds["parked"] += life.parked
        # The store's fake looks at all it holds, each time.
        server.store.remove_tree(names.replica_folder("acme", life.machine.instance_uuid))
    if not told:
        assert min(kinds[kind] for kind in ("full", "delta", "compare")) >= LIVES
        assert min(kinds[what] for what in ("resumed", "parked")) > LIVES / 10, kinds
    print(dict(kinds))
