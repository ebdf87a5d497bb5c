"""What happened to a VM, as the vCenter's history of tasks and events tells."""

from datetime import datetime
from typing import Any, Final

from pyVmomi import vim

from common.vsphere import properties
from common.vsphere.session import Session
from source_agent.vsphere import describe
from source_agent.vsphere.past import Past, Visit

_PAGE: Final = 100

MOST_EVENTS: Final = 1000
"""More than that no vCenter gives in one answer."""

_EVENTS: Final = (
    "VmMigratedEvent",
    "DrsVmMigratedEvent",
    "VmRelocatedEvent",
    "VmPoweredOnEvent",
    "DrsVmPoweredOnEvent",
    "VmResumingEvent",
    "VmRegisteredEvent",
    "VmRestartedOnAlternateHostEvent",
    "VmPrimaryFailoverEvent",
    "com.vmware.vc.ha.VmRestartedByHAEvent",
)
"""Events after which a VM may be on another host. A vCenter takes each name literally, so subtypes are listed, too."""


def past_since(session: Session, machine: Any, since: datetime, subject: str) -> Past:
    """See VSphere.past_since; ``machine`` is the VM.

    Raises:
        KeysapartError: as Session.read does.
    """
    return Past(_reverted(session, machine, since, subject), _visits(session, machine, since, subject))


def _reverted(session: Session, machine: Any, since: datetime, subject: str) -> bool:
    what = f"reading the task history of {subject}"
    of_vm = vim.TaskFilterSpec.ByEntity(entity=machine, recursion=vim.TaskFilterSpec.RecursionOption.self)
    after = vim.TaskFilterSpec.ByTime(timeType=vim.TaskFilterSpec.TimeOption.queuedTime, beginTime=since)

    def ask() -> bool:
        manager = session.content.taskManager
        collector = manager.CreateCollectorForTasks(filter=vim.TaskFilterSpec(entity=of_vm, time=after))
        try:
            while tasks := collector.ReadNextTasks(maxCount=_PAGE):
                if any(_is_revert(task) for task in tasks):
                    return True
            return False
        finally:
            collector.DestroyCollector()

    return session.read(what, subject, ask)


def _is_revert(task: Any) -> bool:
    """Releases name the task ``vm.Snapshot.revert``, ``VirtualMachine.revertToCurrentSnapshot`` and alike."""
    return "revert" in (task.descriptionId or "").lower() and task.state != vim.TaskInfo.State.error


def _visits(session: Session, machine: Any, since: datetime, subject: str) -> tuple[Visit, ...] | None:
    """One call for a VM that stayed where it was; the hosts' releases are read only after a move."""
    spec = vim.event.EventFilterSpec(
        entity=vim.event.EventFilterSpec.ByEntity(
            entity=machine, recursion=vim.event.EventFilterSpec.RecursionOption.self
        ),
        time=vim.event.EventFilterSpec.ByTime(beginTime=since),
        eventTypeId=list(_EVENTS),
        maxCount=MOST_EVENTS,
        disableFullMessage=True,
    )
    events = session.read(
        f"reading the events of {subject}", subject, lambda: session.content.eventManager.QueryEvents(filter=spec) or []
    )
    if len(events) >= MOST_EVENTS:
        return None
    came = first_seen(events)
    if not came:
        return ()
    found = properties.of_all(session, "listing the hosts", vim.HostSystem, (*describe.HOST_PATHS, "runtime.bootTime"))
    hosts = {one.moref: one.values for one in found}
    visits = [_visit(name, when, hosts.get(moref, {})) for moref, (name, when) in came.items()]
    return tuple(sorted(visits, key=lambda visit: visit.host))


def first_seen(events: list[Any]) -> dict[str, tuple[str, datetime]]:
    """Name of each host that the events tell of, and when first, by the host's moref. Pure."""
    seen: dict[str, tuple[str, datetime]] = {}
    for event in events:
        when = describe.utc(event.createdTime)
        for told in (event.host, getattr(event, "sourceHost", None)):
            if told is not None:
                moref = properties.moref_of(told.host)
                earliest = min(when, seen[moref][1]) if moref in seen else when
                seen[moref] = (describe.plain_name(told.name or moref), earliest)
    return seen


def _visit(name: str, when: datetime, values: dict[str, Any]) -> Visit:
    version, build = describe.host(values)
    booted = values.get("runtime.bootTime")
    return Visit(name, version, build, booted is not None and describe.utc(booted) > when)
