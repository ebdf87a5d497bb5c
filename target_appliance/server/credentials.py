"""What the appliance shows in TLS, and whose certificates it asks for; looked up again at every handshake.

gRPC asks for it before each one and keeps silent when that fails, going on with what it had. So failures are kept here,
for the log and for the health port.
"""

import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import grpc

from common import log
from common.clock import Clock
from common.errors import CertificateError, InternalError, KeysapartError
from target_appliance.identity.authority import Authority, renew_at
from target_appliance.identity.certificates import LEAF_LIFE

_log = log.get("credentials")


class ServerCredentials:
    """The server's certificate for ``names``, with the authorities behind it. May be used from any thread."""

    def __init__(self, authority: Authority, names: Sequence[str], clock: Clock) -> None:
        """Raises CertificateError: the authority cannot issue the certificate."""
        self._authority = authority
        self._names = tuple(names)
        self._clock = clock
        self._lock = threading.Lock()
        self._trouble: KeysapartError | None = None
        self._renew_at: datetime
        self._load()

    def asking_clients(self) -> grpc.ServerCredentials:
        """For a port where clients must show a certificate of ours."""
        return self._dynamic(ask=True)

    def asking_nobody(self) -> grpc.ServerCredentials:
        """For a port where only the appliance shows a certificate."""
        return self._dynamic(ask=False)

    def look(self) -> None:
        """Take over what was changed, and renew what is due; a failure is kept for ``check``. Never raises."""
        with self._lock:
            try:
                self._authority.refresh()
                if self._authority.trust is not self._loaded or self._clock.now() >= self._renew_at:
                    self._load()
                    _log.info("the server's certificate was changed", until=f"{self.not_after:%Y-%m-%d}")
                trouble = None
            except KeysapartError as error:
                trouble = error
            except Exception as error:  # noqa: BLE001  it is called by gRPC, which would tell nobody
                trouble = InternalError(
                    f"an unexpected {type(error).__name__} kept certificates from being read",
                    subject="server certificate",
                    next_step="report it with the appliance's log",
                )
            if trouble is not None and (self._trouble is None or self._trouble.message != trouble.message):
                _log.warning("certificates stay as they were", cause=trouble.message, next_step=trouble.next_step)
            self._trouble = trouble

    def check(self) -> None:
        """Return if nothing stands in the way of the next renewal; for the health port.

        Raises:
            KeysapartError: why the certificate could not be renewed, or that the authority will end soon.
        """
        self.look()
        if self._trouble is not None:
            raise self._trouble
        left = self.authority_not_after - self._clock.now()
        if left < LEAF_LIFE:
            raise CertificateError(
                f"the certificate authority ends in {left.days} days, before the certificates that it would issue now",
                subject="authority",
                next_step="make a new one with target-appliance ca rotate",
            )

    @property
    def authority_not_after(self) -> datetime:
        """When the authority ends that issues certificates now."""
        return self._authority.held.ca.certificate.not_valid_after_utc

    @property
    def failing(self) -> bool:
        """Whether certificates could not be read or renewed at the last look."""
        return self._trouble is not None

    def _load(self) -> None:
        trust = self._authority.trust
        own = self._authority.server(self._names)
        held = self._authority.held
        # The authorities' own certificates go along: an agent that is being paired knows only a fingerprint.
        shown = [(own.key_pem, own.certificate_pem + held.shown_pem)]
        certificate = own.certificate
        self.not_after = certificate.not_valid_after_utc
        self._renew_at = renew_at(certificate)
        self._versions = {
            True: grpc.ssl_server_certificate_configuration(shown, root_certificates=self._authority.clients_pem),
            False: grpc.ssl_server_certificate_configuration(shown),
        }
        self._loaded = trust

    def _dynamic(self, *, ask: bool) -> grpc.ServerCredentials:
        given = self._versions[ask]

        def now() -> grpc.ServerCertificateConfiguration | None:
            """What changed, None if nothing did.

            Never the same again: gRPC 1.85 then puts a new factory in place of one from which other handshakes are
            just being made, and of a hundred at once the process died.
            """
            nonlocal given
            self.look()
            if self._versions[ask] is given:
                return None
            given = self._versions[ask]
            return given

        # The stubs do not know that None is allowed; the library's documentation does.
        fetch: Any = now
        return grpc.dynamic_ssl_server_credentials(given, fetch, require_client_authentication=ask)
