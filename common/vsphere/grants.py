"""What the login may do, asked of the vCenter's authorization manager."""

from collections.abc import Sequence
from typing import Any

from common.vsphere import properties
from common.vsphere.session import Session


class Grants:
    """Over one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: frozenset[str] | None = None

    def granted(self, objects: Sequence[Any], ids: Sequence[str]) -> dict[str, frozenset[str]]:
        """Which of ``ids`` the login has, by the object's moref; one call for all of them.

        Raises:
            KeysapartError: as Session.read does.
        """
        entities = {properties.moref_of(one): one for one in objects}

        def ask() -> Sequence[Any]:
            manager, key = self._session.content.authorizationManager, self._session.key()
            answers: Sequence[Any] = manager.HasPrivilegeOnEntities(list(entities.values()), key, list(ids))
            return answers

        granted = dict.fromkeys(entities, frozenset[str]())
        for answer in self._session.read("asking what the login may do", self._session.settings.subject, ask):
            has = frozenset(one.privId for one in answer.privAvailability or [] if one.isGranted)
            granted[properties.moref_of(answer.entity)] = has
        return granted

    def known(self) -> frozenset[str]:
        """What this vCenter's release knows: unknown ids are ignored without a word, and ids drift between releases."""
        if self._known is None:
            self._known = frozenset(one.privId for one in self.manager("privilegeList"))
        return self._known

    def manager(self, path: str) -> Sequence[Any]:
        """A property of the authorization manager that is a list."""
        subject = self._session.settings.subject
        content = self._session.read("reading the service content", subject, lambda: self._session.content)
        what = f"reading the vCenter's {path}"
        found = properties.of_object(self._session, what, subject, content.authorizationManager, (path,))
        return found.values.get(path) or ()
