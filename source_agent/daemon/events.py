"""What happens to the daemon's loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import KeysapartError
from common.ids import ReplicaId
from source_agent.report import SyncReport
from source_agent.schedule.book import Known
from source_agent.vsphere.port import Placement


@dataclass(frozen=True, slots=True)
class Ended:
    """A sync ended: with a report, or an error."""

    replica: ReplicaId
    outcome: SyncReport | KeysapartError


@dataclass(frozen=True, slots=True)
class Inventory:
    """All VMs, and what the target holds of those that it was asked for; times monotonic."""

    placements: Sequence[Placement]
    known: Mapping[ReplicaId, Known]
    tags: frozenset[str] = frozenset()
    """Tags that were looked for: the VMs are told which of these they bear, and of no others."""


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags were read, or not; sentences on what is not as it should be."""

    troubles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """Whether the ``target`` or the ``vcenter`` answers; ``trouble`` None when it does."""

    name: str
    trouble: KeysapartError | None


@dataclass(frozen=True, slots=True)
class Reload:
    """The configuration is to be read anew."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """The agent is to stop."""

    cause: str
    parks: bool = True
    """Syncs that are still under way after the grace are parked; else they are ended."""


Event = Ended | Inventory | Tags | Site | Reload | Terminate
