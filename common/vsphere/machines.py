"""VMs of one session: what they are called, their properties, and tasks on them.

Reads may be repeated. A task is started by one call, which goes out once; it is asked for again only after the vCenter
itself refused it because of another task.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from pyVmomi import vim

from common.clock import Clock
from common.errors import BusyError
from common.vsphere import properties
from common.vsphere.faults import translate
from common.vsphere.session import Session
from common.vsphere.tasks import wait_for

T = TypeVar("T")

BUSY_SECONDS = 60.0
"""How long a change that the vCenter refused because of another task is asked for again."""

PAUSE_SECONDS = 1.0


class Machines:
    """See above; methods may be called from any thread."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self.session = session
        self.clock = clock
        self.names: dict[str, str] = {}
        """Names by moref of VMs that were described: people know no morefs."""

    def called(self, moref: str) -> str:
        """The VM's name where it is known, else its moref."""
        return self.names.get(moref, moref)

    def reference(self, moref: str) -> Any:
        """The VM, without asking the vCenter."""
        return self.session.reference(vim.VirtualMachine, moref)

    def values(self, moref: str, *paths: str) -> dict[str, Any]:
        """Properties that are set.

        Raises:
            KeysapartError: one of them is hidden: that must not be taken for not being there.
        """
        what, subject = f"reading VM {self.called(moref)}", f"vm {moref}"
        found = properties.of_object(self.session, what, subject, self.reference(moref), paths)
        for fault in found.hidden.values():
            raise translate(fault, what, subject, side=self.session.settings.side)
        return found.values

    def once(self, moref: str, what: str, start: Callable[[Any], Any]) -> Any:
        """Start a task on the VM with one call, and wait for its result."""
        machine, subject = self.reference(moref), f"vm {moref}"
        what = f"{what} of VM {self.called(moref)}"
        task = self.session.mutate(what, subject, lambda: start(machine))
        return wait_for(self.session, self.clock, task, what, subject)

    def change(self, moref: str, what: str, start: Callable[[Any], Any]) -> Any:
        """As ``once``; asked again for a while when the vCenter refuses it because of another task."""
        return self.while_busy(lambda: self.once(moref, what, start))

    def while_busy(self, change: Callable[[], T]) -> T:
        """The result of ``change``, which is called again while it raises BusyError."""
        deadline = self.clock.monotonic() + BUSY_SECONDS
        while True:
            try:
                return change()
            except BusyError:  # a definite refusal: nothing was done, so asking again repeats nothing
                if self.clock.monotonic() >= deadline:
                    raise
            self.clock.sleep(PAUSE_SECONDS)
