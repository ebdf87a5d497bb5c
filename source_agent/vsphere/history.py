"""What happened to a VM, as the vCenter's task history tells."""

from datetime import datetime
from typing import Any, Final

from pyVmomi import vim

from source_agent.vsphere.session import Session

_PAGE: Final = 100


def reverted_since(session: Session, machine: Any, since: datetime, subject: str) -> bool:
    """Whether the VM ``machine`` was brought back to a snapshot after ``since``, which is the vCenter's time.

    Raises:
        KeysapartError: as Session.read does.
    """
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
