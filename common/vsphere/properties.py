"""Properties of managed objects, always by PropertyCollector and always over all pages.

Accessors of pyVmomi's objects are never used: each is a round trip of its own, an unset property raises through them,
and reading ``runtime`` or ``summary`` whole fails on enumerations that the bindings do not know.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim, vmodl

from common.vsphere.session import Session

PAGE_OBJECTS = 100
"""Objects in one answer; a VM's devices are some tens of kilobytes."""

_QUERY = vmodl.query.PropertyCollector


@dataclass(frozen=True, slots=True)
class Found:
    """One object: its moref, and the properties that are set and may be seen."""

    moref: str
    values: dict[str, Any]
    hidden: dict[str, vmodl.MethodFault]
    """Properties that were refused, with the fault."""


def moref_of(reference: Any) -> str:
    """The moref of a managed object reference."""
    return str(reference._GetMoId())  # noqa: SLF001  # pyVmomi has no public name for it


def of_object(session: Session, what: str, subject: str, reference: Any, paths: Sequence[str]) -> Found:
    """Properties of one object.

    Raises:
        NotFoundError: there is no such object (any more).
        KeysapartError: as Session.read does.
    """

    def ask() -> list[Found]:
        spec = _QUERY.FilterSpec(
            objectSet=[_QUERY.ObjectSpec(obj=reference)],
            propSet=[_QUERY.PropertySpec(type=type(reference), pathSet=list(paths))],
        )
        found = list(_pages(session, spec, PAGE_OBJECTS))
        if not found:
            raise vmodl.fault.ManagedObjectNotFound(obj=reference, msg=f"{moref_of(reference)} is gone")
        return found

    return session.read(what, subject, ask)[0]


def of_all(
    session: Session, what: str, kind: type, paths: Sequence[str], page_objects: int = PAGE_OBJECTS
) -> list[Found]:
    """Properties of every object of a type that the login may see.

    Raises:
        KeysapartError: as Session.read does.
    """

    def ask() -> list[Found]:
        content = session.content
        view = content.viewManager.CreateContainerView(content.rootFolder, [kind], recursive=True)
        try:
            into = _QUERY.TraversalSpec(name="view", type=vim.view.ContainerView, path="view", skip=False)
            spec = _QUERY.FilterSpec(
                objectSet=[_QUERY.ObjectSpec(obj=view, skip=True, selectSet=[into])],
                propSet=[_QUERY.PropertySpec(type=kind, pathSet=list(paths))],
            )
            return list(_pages(session, spec, page_objects))
        finally:
            with suppress(Exception):  # a view ends with its session at the latest
                view.Destroy()

    return session.read(what, session.settings.subject, ask)


def require_login(hidden: Mapping[str, vmodl.MethodFault]) -> None:
    """Raise the NotAuthenticated among faults of single properties: a lost login may show there and nowhere else."""
    for fault in hidden.values():
        if isinstance(fault, vim.fault.NotAuthenticated):
            raise fault


def _pages(session: Session, spec: Any, page_objects: int) -> Iterator[Found]:
    collector = session.content.propertyCollector
    answer = collector.RetrievePropertiesEx([spec], _QUERY.RetrieveOptions(maxObjects=page_objects))
    while answer is not None:
        for one in answer.objects:
            hidden = {pair.path: pair.fault for pair in one.missingSet or []}
            require_login(hidden)
            yield Found(moref_of(one.obj), {pair.name: pair.val for pair in one.propSet or []}, hidden)
        if not answer.token:
            return
        answer = collector.ContinueRetrievePropertiesEx(answer.token)
