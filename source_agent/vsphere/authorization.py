"""What the login may do, asked of the vCenter's authorization manager, and roles made there."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyVmomi import vim

from common.errors import AccessDeniedError
from common.vsphere import properties
from common.vsphere.grants import Grants
from common.vsphere.session import Session
from source_agent.vsphere.describe import plain_name
from source_agent.vsphere.port import Lacking, Place, RoleChange

_SYSTEM = "System."
"""Privileges that the vCenter puts into every role by itself."""

_Object = tuple[Any, str]
"""A reference, and the object in words."""


class Authorization:
    """The authorization manager over one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._grants = Grants(session)

    def lacking(self, moref: str, agent_vm: str, wanted: Mapping[Place, frozenset[str]]) -> tuple[Lacking, ...]:
        """See VSphere."""
        places = {place: found for place, found in self._places(moref, agent_vm).items() if wanted.get(place)}
        ids = sorted(frozenset().union(*(wanted[place] for place in places)))
        objects = [one for found in places.values() for one, _ in found.values()]
        if not ids or not objects:
            return ()
        granted = self._grants.granted(objects, ids)
        if all(has.issuperset(ids) for has in granted.values()):
            return ()
        known = self._grants.known()  # long to read, and what this release does not know it never grants
        return tuple(
            Lacking(privilege, place, entity)
            for place, found in places.items()
            for one, (_, entity) in found.items()
            for privilege in sorted(wanted[place] & known)
            if privilege not in granted[one]
        )

    def put_role(self, name: str, privileges: frozenset[str]) -> RoleChange:
        """See VSphere."""
        known = self._grants.known()
        ids, unknown = privileges & known, tuple(sorted(privileges - known))
        existing = self._role(name)
        what, subject, session = f"making the role {name}", f"role {name}", self._session
        if existing is None:
            session.mutate(
                what, subject, lambda: session.content.authorizationManager.AddAuthorizationRole(name, sorted(ids))
            )
            return RoleChange(name, created=True, added=tuple(sorted(ids)), removed=(), unknown=unknown)
        number, held = existing
        if held != ids:
            session.mutate(
                what,
                subject,
                lambda: session.content.authorizationManager.UpdateAuthorizationRole(number, name, sorted(ids)),
            )
        added, removed = tuple(sorted(ids - held)), tuple(sorted(held - ids))
        return RoleChange(name, created=False, added=added, removed=removed, unknown=unknown)

    def _role(self, name: str) -> tuple[int, frozenset[str]] | None:
        """Number and privileges of a role, without those that every role has; None when there is none of that name."""
        for role in self._grants.manager("roleList"):
            if role.name == name:
                return role.roleId, frozenset(one for one in role.privilege or [] if not one.startswith(_SYSTEM))
        return None

    def _places(self, moref: str, agent_vm: str) -> dict[Place, dict[str, _Object]]:
        """The objects of each kind around the VM, by moref."""
        session = self._session
        machine = session.reference(vim.VirtualMachine, moref)
        what, paths = f"reading VM {moref}", ("name", "parent", "datastore")
        values = properties.of_object(session, what, f"vm {moref}", machine, paths).values
        content = session.read("reading the service content", session.settings.subject, lambda: session.content)
        agent = [session.reference(vim.VirtualMachine, agent_vm)] if agent_vm else []
        return {
            Place.VM: {moref: (machine, f"VM {plain_name(values.get('name', moref))}")},
            Place.FOLDER: self._named("folder", [values["parent"]] if values.get("parent") else []),
            Place.DATASTORE: self._named("datastore", values.get("datastore") or []),
            Place.AGENT_VM: self._named("VM", agent),
            Place.ROOT: {properties.moref_of(content.rootFolder): (content.rootFolder, "the vCenter's root folder")},
        }

    def _named(self, kind: str, references: Sequence[Any]) -> dict[str, _Object]:
        found = {}
        for reference in references:
            moref = name = properties.moref_of(reference)
            what, subject = f"reading {kind} {moref}", f"{kind} {moref}"
            try:
                values = properties.of_object(self._session, what, subject, reference, ("name",)).values
                name = plain_name(values.get("name", moref))
            except AccessDeniedError:
                pass  # that it cannot be seen is among the answers to come
            found[moref] = (reference, f"{kind} {name}")
        return found
