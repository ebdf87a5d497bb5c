"""What the last syncs of a VM moved, kept here so that the next one can be foretold; a convenience, never needed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.ids import ReplicaId
from common.private_file import write_file
from source_agent.plan import Kind


@dataclass(frozen=True, slots=True)
class Measured:
    """One sync. Bytes are the wire's where they are sent, the disk's where they are read."""

    bytes_read: int
    bytes_sent: int
    seconds: float
    span_seconds: float | None
    """Between this sync's snapshot and that of the point before it; None for the first."""
    suspicions: list[str] = field(default_factory=list)
    """Signs of encryption inside the guest, in words."""


def load(state_dir: Path, vm: ReplicaId) -> dict[Kind, Measured]:
    """The last sync of each kind; empty where nothing is known or readable."""
    try:
        found = json.loads(_path(state_dir, vm).read_bytes())
        return {Kind(kind): Measured(**values) for kind, values in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def save(state_dir: Path, vm: ReplicaId, measured: Mapping[Kind, Measured]) -> None:
    """Keep ``measured``, whole or not at all. Raises OSError."""
    text = json.dumps({kind.value: asdict(one) for kind, one in measured.items()})
    write_file(_path(state_dir, vm), f"{text}\n".encode(), replace=True)


def _path(state_dir: Path, vm: ReplicaId) -> Path:
    return state_dir / f"vm-{vm}.measured.json"
