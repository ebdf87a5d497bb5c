"""A disk to be attached to the VM that we run in, and an attached one. Without bindings: ports name them."""

from dataclasses import dataclass

from common.ids import DiskKey


@dataclass(frozen=True, slots=True)
class DiskFile:
    """An existing disk: its path on a datastore, how large it is, and what people call it."""

    path: str
    capacity_bytes: int
    label: str


@dataclass(frozen=True, slots=True)
class AttachedDisk:
    """A hot-added disk: where the guest operating system sees it."""

    key: DiskKey
    """Device key on the VM it was added to, for detaching."""
    bus: int
    """SCSI bus number of the controller."""
    unit: int
    """SCSI target on it."""
