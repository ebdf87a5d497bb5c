"""A whole pair in one process: the agent over a vCenter in memory, the appliance beside it, real TLS between."""

import random

from common.clock import SystemClock
from common.grain import GRAIN_BYTES
from source_agent.disk_read.memory import MemoryReader
from source_agent.needs import Agent
from source_agent.replicate import sync_vm
from source_agent.vsphere.memory import MemorySite, MemoryVSphere

AGENT = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
SIZES = (4 << 20, (3 << 20) + 5 * 512)


class Quiet:
    """Progress that is kept for the test."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    def disk(self, task, total_bytes, count):
        self.said.append((task.disk.key, total_bytes))


class World:
    """One VM of two disks, one that ends in the middle of a grain, and an agent for it."""

    def __init__(self, tmp_path, server):
        self.server = server
        self.site = MemorySite(tmp_path / "site", page_areas=3)
        self.vm = self.site.add_vm("web01", SIZES, encrypted=True)
        self.site.add_vm("agent-vm", (1 << 20,), encrypted=True)
        self.targets = []
        self.agent = self.make_agent(AGENT, tmp_path / "state")
        self.rng = random.Random(5)

    def make_agent(self, agent_id, state, reader=None, vsphere=None):
        files = self.server.admit("acme", agent_id)
        target = self.server.target(files)
        self.targets.append(target)
        return Agent(
            agent_id=agent_id,
            vsphere=vsphere or MemoryVSphere(self.site),
            reader=reader or MemoryReader(self.site),
            target=target,
            clock=SystemClock(),
            state_dir=state,
            agent_vm="agent-vm",
            quiesce=False,
            parallel_disks=2,
        )

    def sync(self, agent=None, *, requested=None):
        return sync_vm(agent or self.agent, "web01", requested=requested, progress=Quiet())

    def write(self, key, offset, data):
        self.site.write(self.vm.moref, key, offset, data)

    def scribble(self):
        for key, size in zip((2000, 2001), SIZES, strict=True):
            for _ in range(9):
                length = self.rng.choice((512, 4096, 70_144))
                offset = self.rng.randrange((size - length) // 512 + 1) * 512
                self.write(key, offset, self.rng.choice((bytes(length), self.rng.randbytes(length))))

    def held(self, point, key):
        """What the target would give back of a disk."""
        size = dict(zip((2000, 2001), SIZES, strict=True))[key]
        vault = self.server.behind.vault
        with vault.view("acme", self.vm.instance_uuid, key, point) as view:
            return b"".join(grain or bytes(GRAIN_BYTES) for grain in view.read(0, view.grains))[:size]

    def assert_equal(self, point):
        for key in (2000, 2001):
            assert self.held(point, key) == self.site.image(self.vm.moref, key), (point, key)

    def snapshots(self):
        return self.site.machines[self.vm.moref].snapshots
