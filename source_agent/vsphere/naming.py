"""Which VM a user means: by moref, instance UUID, or name. Pure."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from common.errors import NotFoundError, PreconditionError
from common.ids import ReplicaId

_SHOWN = 80


class Named(Protocol):
    """What a VM is told by."""

    @property
    def moref(self) -> str:
        """The vCenter's own reference."""
        ...

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def instance_uuid(self) -> ReplicaId:
        """What it keeps through renames."""
        ...


V = TypeVar("V", bound=Named)


def pick(vms: Iterable[V], name: str) -> V:
    """The one VM that ``name`` names; morefs and instance UUIDs win over names.

    Raises:
        NotFoundError: no such VM.
        PreconditionError: several VMs bear the name.
    """
    known = list(vms)
    shown = ascii(name[:_SHOWN])
    for match in (
        [vm for vm in known if vm.moref == name],
        [vm for vm in known if vm.instance_uuid == name.lower()],
        [vm for vm in known if vm.name == name],
    ):
        if len(match) == 1:
            return match[0]
        if match:
            raise PreconditionError(
                f"{len(match)} VMs are called {shown}: {', '.join(sorted(vm.moref for vm in match))}",
                subject=f"vm {shown}",
                next_step="name one of them by its moref",
            )
    raise NotFoundError(
        f"there is no VM {shown} that this login may see",
        subject=f"vm {shown}",
        next_step="list the VMs with source-agent inventory, check the name and the login's privileges",
    )
