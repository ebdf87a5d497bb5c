"""Whether vCenter and target answer, and whether a failed sync gives reason to doubt it. Pure."""

from typing import Final

from common.errors import (
    AccessDeniedError,
    CertificateError,
    KeysapartError,
    SourceUnavailableError,
    TargetUnavailableError,
)

_SUSPECTS: Final = {
    AccessDeniedError.reason: ("vcenter",),
    CertificateError.reason: ("target", "vcenter"),
    SourceUnavailableError.reason: ("vcenter",),
    TargetUnavailableError.reason: ("target",),
}
"""Sites that may be what a sync failed of, by the reason of its error."""


class Sites:
    """What is known of ``vcenter`` and ``target``; written by one thread."""

    def __init__(self) -> None:
        self._troubles: dict[str, KeysapartError | None] = {}
        self._doubts: set[str] = set()
        """Sites that a sync failed of, until the next look at them."""

    @property
    def silent(self) -> str | None:
        """A site that does not answer, or of which that is in doubt; None when all do."""
        troubled = {name for name, trouble in self._troubles.items() if trouble is not None}
        return min(self._doubts | troubled, default=None)

    def trouble(self, name: str) -> KeysapartError | None:
        """Why the site does not answer, as far as is known."""
        return self._troubles.get(name)

    def told(self, name: str) -> str:
        """The same for the status document."""
        if name not in self._troubles:
            return "not asked yet"
        trouble = self._troubles[name]
        return "reachable" if trouble is None else trouble.message

    def doubt(self, error: KeysapartError) -> bool:
        """Whether what a sync failed of may be a site.

        If so it counts as silent until the next look, so that hundreds of others do not fail of the same one after the
        other: as many logins with a password that is no longer right would lock the account.
        """
        suspects = _SUSPECTS.get(error.reason, ())
        self._doubts.update(suspects)
        return bool(suspects)

    def looked(self, name: str, trouble: KeysapartError | None) -> KeysapartError | None:
        """A look at the site; returns what was known of it before."""
        before = self._troubles.get(name)
        self._troubles[name] = trouble
        self._doubts.discard(name)
        return before


def reasons_of(name: str) -> list[str]:
    """Reasons of errors that the site may be behind."""
    return [reason for reason, sites in _SUSPECTS.items() if name in sites]
