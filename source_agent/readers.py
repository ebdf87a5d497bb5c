"""Which reader stands behind the port: the only place that knows all of them."""

from common import log
from common.clock import Clock
from common.ids import AgentId
from common.vsphere.settings import VCenterSettings, read_password
from source_agent.config import AgentConfig
from source_agent.disk_read.choice import Choice, choose
from source_agent.disk_read.hotadd.reader import HotAddReader
from source_agent.disk_read.port import BlockReader
from source_agent.disk_read.vddk.install import find_library
from source_agent.disk_read.vddk.reader import VddkReader, VddkSettings
from source_agent.vsphere.port import VSphere
from source_agent.vsphere.thumbprint import thumbprint

_log = log.get("reader")


def open_reader(
    config: AgentConfig, settings: VCenterSettings, vsphere: VSphere, agent: AgentId, clock: Clock
) -> tuple[BlockReader, Choice]:
    """The configured reader, which the caller closes, and why it is that one (logged, too).

    Raises:
        ConfigError: it needs a library that is not installed.
    """
    section = config.reader
    library = find_library(section.vddk_dir)
    choice = choose(section.transport, library, section.vddk_dir)
    _log.info(choice.why)
    if choice.transport == "hotadd" or library is None:
        return HotAddReader(vsphere, section.agent_vm, config.state_dir, clock, device_dir=section.device_dir), choice
    vddk = VddkSettings(
        library=library,
        root=section.vddk_dir,
        mode=choice.mode,
        server=settings.host,
        port=settings.port,
        data_port=section.data_port,
        user=settings.user,
        password=lambda: read_password(settings.password_file),
        thumbprint=lambda: thumbprint(settings),
        identity=f"keysapart {agent}",
    )
    return VddkReader(vddk, config.state_dir, clock), choice
