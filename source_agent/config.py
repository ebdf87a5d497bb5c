"""agent.toml: what an operator sets. ``deploy/agent/example.toml`` explains every key."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from common.address import HostPort
from common.config import ConfigPath, Section
from common.duration import Duration
from common.tls import TlsFiles
from common.vsphere.section import AccessSection
from source_agent.disk_read.choice import Transport
from source_agent.schedule.sections import BandwidthSection, ObserveSection, ProtectSection, ScheduleSection
from source_agent.snapshot_limits import Limits


class TargetSection(Section):
    """``[target]``: where the appliance is, and who we are to it."""

    address: HostPort
    ca_file: ConfigPath
    certificate_file: ConfigPath
    key_file: ConfigPath
    server_name: str | None = None
    """Name the target's certificate must bear, when it is not the address's host."""
    unreachable_minutes: float = Field(default=30, ge=0, le=7 * 24 * 60)
    """How long a sync waits for a target that is out of reach before it lets go of its snapshot."""

    @property
    def files(self) -> TlsFiles:
        """The TLS files."""
        return TlsFiles(self.ca_file, self.certificate_file, self.key_file)


class OperatorSection(Section):
    """``[operator]``: a certificate of the role operator, which reads replicas back; the agent's own does not."""

    certificate_file: ConfigPath
    key_file: ConfigPath


class ReaderSection(Section):
    """``[reader]``: how disks are read."""

    transport: Transport = "auto"
    agent_vm: str = Field(min_length=1)
    device_dir: ConfigPath = Path("/dev/disk/by-path")
    vddk_dir: ConfigPath = Path("/opt/vmware-vix-disklib-distrib")
    data_port: int = Field(default=902, gt=0, lt=1 << 16)
    """Of each ESXi host, for vddk-nbdssl."""


class SnapshotSection(Section):
    """``[snapshot]``: what a snapshot guarantees."""

    quiesce: Literal["none", "filesystem"] = "none"
    quiesce_fallback: bool = False
    max_age: Duration = 3 * 86400.0
    max_size_gib: float | None = Field(default=None, gt=0)
    park_hours: float = Field(default=4, ge=0, le=7 * 24)
    """How long the snapshot of a sync that SIGTERM stopped may wait for the next one; 0: not at all."""

    @property
    def limits(self) -> Limits:
        """What a snapshot may become before its sync is ended."""
        return Limits(self.max_age, None if self.max_size_gib is None else int(self.max_size_gib * (1 << 30)))

    @property
    def park_seconds(self) -> float:
        """The same as park_hours."""
        return self.park_hours * 3600


class SyncSection(Section):
    """``[sync]``: how much at once."""

    parallel_disks: int = Field(default=2, ge=1, le=16)


class LogSection(Section):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "console"


class AgentConfig(Section):
    """The whole file."""

    state_dir: ConfigPath
    target: TargetSection
    operator: OperatorSection | None = None
    vcenter: AccessSection
    reader: ReaderSection
    snapshot: SnapshotSection = SnapshotSection()
    sync: SyncSection = SyncSection()
    protect: tuple[ProtectSection, ...] = ()
    schedule: ScheduleSection = ScheduleSection()
    bandwidth: BandwidthSection = BandwidthSection()
    observe: ObserveSection = ObserveSection()
    log: LogSection = LogSection()
