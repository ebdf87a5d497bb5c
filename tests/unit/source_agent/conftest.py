import pytest

from source_agent.vsphere.memory import MemorySite, MemoryVSphere
from tests.fakes.clock import ManualClock
from tests.fakes.served import served
from tests.unit.source_agent.world import World


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def site(tmp_path, clock):
    """A site with an encrypted VM of two disks, one that ends in the middle of a grain, and the agent's VM."""
    folder = tmp_path / "site"
    made = MemorySite(folder, clock=clock)
    made.add_vm("web01", [1 << 20, (3 << 16) + 512], encrypted=True)
    made.add_vm("agent-vm", [1 << 20], encrypted=True)
    return made


@pytest.fixture
def vsphere(site):
    return MemoryVSphere(site)


@pytest.fixture
def world(tmp_path):
    with served(tmp_path) as server:
        made = World(tmp_path, server)
        try:
            yield made
        finally:
            for target in made.targets:
                target.close()
