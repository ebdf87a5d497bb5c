"""Tags that policies select by. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from source_agent.schedule.policy import Policy
from source_agent.vsphere.port import Placement


def wanted(policies: Iterable[Policy]) -> frozenset[str]:
    """Every tag that some policy asks for."""
    return frozenset(policy.tag for policy in policies if policy.tag is not None)


def bearing(placements: Iterable[Placement], tagged: Mapping[str, Collection[str]]) -> list[Placement]:
    """The VMs with their tags; ``tagged`` has the morefs of each tag's VMs."""
    borne: dict[str, set[str]] = {}
    for tag, morefs in tagged.items():
        for moref in morefs:
            borne.setdefault(moref, set()).add(tag)
    return [replace(one, tags=frozenset(borne.get(one.moref, ()))) for one in placements]


def missing(asked: Iterable[str], tagged: Collection[str]) -> tuple[str, ...]:
    """A sentence for each tag that was asked for and is not there."""
    return tuple(
        f'the vCenter has no tag "{tag}" (category:name) that this login may see, so it selects no VM'
        for tag in sorted(set(asked) - set(tagged))
    )
