"""How long the appliance's own certificates last, and what a person should do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509

from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import LEAF_LIFE
from target_appliance.identity.signing import fingerprint_of

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What counts at ``now``."""

    authorities: tuple[x509.Certificate, ...]
    """The one that issues first."""
    server: x509.Certificate
    unrenewed: tuple[str, ...]
    now: datetime

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what will end soon."""
        if self.authorities[0].not_valid_after_utc - self.now < LEAF_LIFE:
            return ("the authority ends before what it would issue now: run target-appliance ca rotate",)
        return ()

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "authorities": [
                {"issues": at == 0, **self._shown(certificate)} for at, certificate in enumerate(self.authorities)
            ],
            "server": self._shown(self.server),
            "unrenewed": list(self.unrenewed),
            "warnings": list(self.warnings),
        }

    def _shown(self, certificate: x509.Certificate) -> dict[str, Any]:
        return {
            "not_after": certificate.not_valid_after_utc.isoformat(),
            "days_left": (certificate.not_valid_after_utc - self.now) // _DAY,
            "sha256": fingerprint_of(certificate),
        }


def outlook(authority: Authority, names: Sequence[str], now: datetime) -> Outlook:
    """What counts at ``now``; renews the server's certificate for ``names`` if that is due."""
    return Outlook(authority.held.roots, authority.server(names).certificate, authority.unrenewed(), now)
