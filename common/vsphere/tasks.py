"""Waiting for a vCenter task: by updates, with a deadline, over lost connections.

A collector of its own for each wait: updates of a shared one would go to whichever thread asks first.
"""

from contextlib import suppress
from typing import Any

from pyVmomi import vim, vmodl

from common.clock import Clock
from common.errors import SourceUnavailableError
from common.vsphere.faults import at_side, translate
from common.vsphere.session import Session

_QUERY = vmodl.query.PropertyCollector
_STATE, _ERROR, _RESULT = "info.state", "info.error", "info.result"
_LONGEST_WAIT = 20
"""Seconds that one request may wait at the vCenter; shorter where requests time out earlier."""

PATIENCE_SECONDS = 60.0
"""How long a task is asked for again and again while the vCenter does not answer."""

_PAUSE_SECONDS = 1.0


def wait_for(session: Session, clock: Clock, task: Any, what: str, subject: str) -> Any:
    """The task's result.

    Raises:
        SourceUnavailableError: it did not end in time, or the vCenter went away; the outcome is unknown.
        KeysapartError: the task failed, by the table in faults.py.
    """
    deadline = clock.monotonic() + session.settings.task_seconds
    lost_since: float | None = None
    while clock.monotonic() < deadline:
        try:
            values = session.read(what, subject, lambda: _watch(session, clock, task, deadline))
        except SourceUnavailableError:
            lost_since = clock.monotonic() if lost_since is None else lost_since
            if clock.monotonic() - lost_since >= PATIENCE_SECONDS:
                raise
            clock.sleep(_PAUSE_SECONDS)
            continue
        if values[_STATE] == vim.TaskInfo.State.error:
            fault = values.get(_ERROR) or vmodl.fault.SystemError(msg="the task failed without saying why")
            raise translate(fault, what, subject, side=session.settings.side) from fault
        if values[_STATE] == vim.TaskInfo.State.success:
            return values.get(_RESULT)
    raise at_side(SourceUnavailableError, session.settings.side)(
        f"{what} did not end within {session.settings.task_seconds:.0f} seconds",
        subject=subject,
        next_step="look at the vCenter's tasks, it may still be under way",
    )


def _watch(session: Session, clock: Clock, task: Any, deadline: float) -> dict[str, Any]:
    """The task's properties when it has ended, or as they are when the deadline passes."""
    collector = session.content.propertyCollector.CreatePropertyCollector()
    try:
        collector.CreateFilter(
            _QUERY.FilterSpec(
                objectSet=[_QUERY.ObjectSpec(obj=task)],
                propSet=[_QUERY.PropertySpec(type=vim.Task, pathSet=[_STATE, _ERROR, _RESULT])],
            ),
            partialUpdates=False,
        )
        values: dict[str, Any] = {_STATE: None}
        version = ""
        while values[_STATE] not in {vim.TaskInfo.State.success, vim.TaskInfo.State.error}:
            left = deadline - clock.monotonic()
            if left <= 0:
                break
            longest = max(1, min(_LONGEST_WAIT, int(session.settings.timeout_seconds / 2), int(left) + 1))
            update = collector.WaitForUpdatesEx(version, _QUERY.WaitOptions(maxWaitSeconds=longest))
            if update is None:
                continue
            version = update.version
            values.update(_changes(update))
        return values
    finally:
        with suppress(Exception):  # it ends with the session at the latest
            collector.Destroy()


def _changes(update: Any) -> dict[str, Any]:
    """New values of an update set.

    Raises:
        vmodl.fault.ManagedObjectNotFound: the task vanished, which is no success.
    """
    values: dict[str, Any] = {}
    for filtered in update.filterSet or []:
        for one in filtered.objectSet or []:
            if one.kind == _QUERY.ObjectUpdate.Kind.leave:
                raise vmodl.fault.ManagedObjectNotFound(obj=one.obj, msg="the task vanished")
            values.update({change.name: change.val for change in one.changeSet or []})
    return values
