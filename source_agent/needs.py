"""What a sync needs of the world: both sites, a reader, and what the configuration says of syncs."""

from dataclasses import dataclass, field
from pathlib import Path

from common.clock import Clock
from common.ids import AgentId
from source_agent.disk_read.port import BlockReader
from source_agent.snapshot_limits import Limits
from source_agent.stop import Stop
from source_agent.stream.channel import Target
from source_agent.vsphere.port import VSphere


@dataclass(frozen=True)
class Agent:
    """All of it the caller's, to be closed by him."""

    agent_id: AgentId
    vsphere: VSphere
    reader: BlockReader
    target: Target
    clock: Clock
    state_dir: Path
    agent_vm: str
    """The agent's own VM, for preflight's rules on hot-add."""
    quiesce: bool
    parallel_disks: int
    data_port: int = 902
    """Of ESXi hosts, for vddk-nbdssl."""
    transport: str = "hotadd"
    """hotadd, vddk-nbdssl or vddk-hotadd: what preflight's rules depend on."""
    quiesce_fallback: bool = False
    """A guest that does not quiesce is replicated all the same, crash-consistent."""
    limits: Limits = field(default_factory=Limits)
    """Of the snapshot."""
    stop: Stop = field(default_factory=Stop)
    """Ends the sync that is under way."""
    unreachable_seconds: float = 1800.0
    """How long the target may be out of reach before a sync lets go of its snapshot; 0 waits for nothing."""
    park_seconds: float = 4 * 3600.0
    """For how long a parked sync may be gone on with."""
