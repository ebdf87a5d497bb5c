"""What of the configuration may change while the agent runs: policies, bounds, bandwidth."""

from pathlib import Path

from common import log
from common.config import load
from common.errors import KeysapartError
from source_agent.config import AgentConfig
from source_agent.schedule.decide import Limits
from source_agent.schedule.policy import Policy, policy_of
from source_agent.schedule.tags import wanted
from source_agent.schedule.week import Week
from source_agent.vsphere.port import Placement

_LIVE = {"protect", "schedule", "bandwidth"}
_log = log.get("config")


class Settings:
    """The file as it was last read without complaint.

    Args:
        path: the file.
        config: what it held at the start.
    """

    def __init__(self, path: Path, config: AgentConfig) -> None:
        self.error: str | None = None
        """Why the file as it is now was refused."""
        self._path = path
        self._began = config
        self._seen = self._mark()
        self._take(config)

    def _take(self, config: AgentConfig) -> None:
        self.policies: tuple[Policy, ...] = tuple(section.policy() for section in config.protect)
        self.limits: Limits = config.schedule.limits()
        self.week: Week = config.bandwidth.week()
        self.inventory_every: float = config.schedule.inventory_every
        self.stop_grace: float = config.schedule.stop_grace
        self.parks: bool = config.snapshot.park_seconds > 0

    def selects(self, vm: Placement) -> bool:
        """Whether the VM is protected."""
        return policy_of(vm, self.policies) is not None

    def tags(self) -> frozenset[str]:
        """Tags that policies select by."""
        return wanted(self.policies)

    def changed(self) -> bool:
        """The file is another one than when it was last read."""
        return self._mark() != self._seen

    def reload(self) -> bool:
        """Read the file again; False, and everything stays as it is, when it is refused."""
        self._seen = self._mark()
        try:
            config = load(self._path, AgentConfig)
        except KeysapartError as error:
            self.error = error.message
            _log.warning("the configuration stays as it was", cause=error.message, next_step=error.next_step)
            return False
        self.error = None
        self._take(config)
        fixed = [
            name
            for name in AgentConfig.model_fields
            if name not in _LIVE and getattr(config, name) != getattr(self._began, name)
        ]
        _log.info("configuration read", policies=len(self.policies), syncs=self.limits.syncs)
        if fixed:
            _log.warning("these sections take effect at the next start", sections=fixed)
        return True

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:  # being replaced; reading it says what is wrong, if anything is
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
