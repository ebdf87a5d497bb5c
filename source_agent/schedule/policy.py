"""Which VMs are protected, and how: the first policy whose every condition a VM meets. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from source_agent.vsphere.naming import pick
from source_agent.vsphere.port import Placement


@dataclass(frozen=True, slots=True)
class Policy:
    """What is wanted for the VMs that it selects; durations in seconds."""

    rpo: float
    """Largest age that a VM's newest point may have."""
    compare_every: float | None = None
    """How often a sync reads everything and compares; None for never without need."""
    priority: int = 0
    """Which of two VMs that are both late goes first: the higher one."""
    vms: tuple[str, ...] = ()
    """Patterns for the VM's name, one of which must fit; empty for any name."""
    folder: str | None = None
    """Inventory path of a folder, such as ``/site/vm/prod``; whatever is below it is in it."""
    attribute: tuple[str, str] | None = None
    """A custom attribute and a pattern for its value."""
    tag: str | None = None
    """A tag, as ``category:name``."""
    exclude: bool = False
    """The VMs are not protected; nothing but the conditions counts."""

    def selects(self, vm: Placement) -> bool:
        """Whether the VM meets every condition."""
        if self.vms and not any(fnmatchcase(vm.name, pattern) for pattern in self.vms):
            return False
        if self.folder is not None and not f"{vm.folder}/".startswith(f"{self.folder}/"):
            return False
        if self.tag is not None and self.tag not in vm.tags:
            return False
        if self.attribute is not None:
            name, pattern = self.attribute
            return name in vm.attributes and fnmatchcase(vm.attributes[name], pattern)
        return True


def policy_of(vm: Placement, policies: Sequence[Policy]) -> Policy | None:
    """The VM's policy; None when it is a template, is excluded, or no policy selects it."""
    if vm.template:
        return None
    found = next((policy for policy in policies if policy.selects(vm)), None)
    return None if found is None or found.exclude else found


def rpo_of(name: str, placements: Sequence[Placement], policies: Sequence[Policy]) -> float | None:
    """RPO in seconds of the VM called ``name`` (or by moref or instance UUID); None when it is not protected.

    Raises:
        NotFoundError: no such VM.
        PreconditionError: several VMs bear the name.
    """
    found = policy_of(pick(placements, name), policies)
    return None if found is None else found.rpo
