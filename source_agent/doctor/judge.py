"""What dates, clocks and leftovers mean. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from common.ids import AgentId
from source_agent.doctor.report import Found
from source_agent.preflight import Finding, Severity
from source_agent.schedule.policy import Policy, policy_of
from source_agent.vsphere.port import Placement, VmInfo
from source_agent.vsphere.snapshots import leftovers

SOON = timedelta(days=30)
SKEW = timedelta(minutes=1)


def certificate(whose: str, not_after: datetime, now: datetime, remedy: str, *, checked: bool) -> Iterator[Found]:
    """How long a certificate lasts; ``checked`` says whether anything fails once it has expired."""
    left = not_after - now
    where = whose.removeprefix("the ").removesuffix("'s")
    if left <= timedelta():
        severity = Severity.REFUSE if checked else Severity.WARN
        sentence = f"{whose} certificate expired on {not_after:%Y-%m-%d}"
    elif left < SOON:
        severity, sentence = Severity.WARN, f"{whose} certificate expires in {left.days} days, on {not_after:%Y-%m-%d}"
    else:
        severity, sentence = Severity.NOTE, f"{whose} certificate lasts until {not_after:%Y-%m-%d}"
        remedy = "nothing to do"
    yield Found(Finding(severity, f"{where}-certificate".lower(), sentence, remedy), where)


def clock(whose: str, theirs: datetime, ours: datetime) -> Iterator[Found]:
    """How far two clocks are apart."""
    skew = theirs - ours
    if abs(skew) > SKEW:
        ahead = "ahead of" if skew > timedelta() else "behind"
        yield Found(
            Finding(
                Severity.WARN,
                "clock",
                f"the clock of the {whose} is {abs(skew).total_seconds():.0f} s {ahead} the agent's",
                "set both machines' clocks by NTP: certificates, RPOs and the history of VMs go by them",
            ),
            whose,
        )


def selected(vms: Sequence[Placement], policies: Sequence[Policy]) -> tuple[frozenset[str], list[Found]]:
    """Morefs of the VMs that some policy is for, and the policies that are for none."""
    unused = [
        Found(
            Finding(
                Severity.WARN,
                "policy-unused",
                f"no VM fits the {number}. [[protect]] section",
                "correct its names, folder, tag or attribute, or remove it",
            )
        )
        for number, policy in enumerate(policies, 1)
        if not any(policy_of(vm, [policy]) for vm in vms)
    ]
    return frozenset(vm.moref for vm in vms if policy_of(vm, policies)), unused


def tags(missing: Iterable[str]) -> Iterator[Found]:
    """Tags that policies ask for in vain, in words."""
    for sentence in missing:
        remedy = "correct tag in [[protect]], or let the agent's user read the tag"
        yield Found(Finding(Severity.WARN, "tag-missing", sentence, remedy), "tags")


def left_behind(vms: Sequence[VmInfo], agent: AgentId, busy: Iterable[str]) -> Iterator[Found]:
    """Snapshots of this agent, and disks of VMs that are attached to others.

    Args:
        vms: all of the site.
        agent: this one.
        busy: instance UUIDs of VMs that are being synced at this moment: what they have is in use.
    """
    at_work = set(busy)
    for vm in vms:
        if vm.instance_uuid in at_work:
            continue
        for one in leftovers(vm, agent):
            yield Found(
                Finding(
                    Severity.WARN,
                    "leftover-snapshot",
                    f"{vm.name} has the snapshot {one.name} of a sync that did not end well",
                    "run a sync of the VM, which removes it first",
                ),
                vm.name,
            )
    owners = {disk.uuid: vm for vm in vms for disk in vm.disks if disk.uuid and not disk.independent}
    for vm in vms:
        for disk in vm.disks:
            owner = owners.get(disk.uuid)
            if (
                disk.independent
                and owner is not None
                and owner.moref != vm.moref
                and owner.instance_uuid not in at_work
            ):
                yield Found(
                    Finding(
                        Severity.WARN,
                        "attached-disk",
                        f"{disk.label or 'a disk'} of {vm.name} is a disk of {owner.name} ({disk.backing_path})",
                        "run a sync, which detaches what this agent attached; ask another product's owner otherwise",
                    ),
                    owner.name,
                )
