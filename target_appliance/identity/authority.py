"""The appliance's certificate authority on disk: made once by ``init``, then issues server and agent certificates.

Files in its folder: ``ca.crt``, ``ca.key``, ``server.pem`` (certificate and key together, so that both change at once),
``signer.pem`` (the same, for signing documents), ``issued/<agent>.crt`` (what was issued, from which the catalog's
agents can be rebuilt), ``revoked/<agent>.crt``.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from common.clock import Clock
from common.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    CertificateError,
    ConfigError,
    PreconditionError,
)
from common.ids import AgentId, TenantId
from common.private_file import PUBLIC, sync_folder, write_file
from target_appliance.identity.authn import Trust
from target_appliance.identity.certificates import (
    Issued,
    PublicKey,
    certify_agent,
    general_name,
    key_pem,
    make_authority,
    make_server,
    make_signer,
    new_key,
)
from target_appliance.identity.names import Role, agent_uri

_CA_CRT, _CA_KEY, _SERVER, _SIGNER = "ca.crt", "ca.key", "server.pem", "signer.pem"
_ISSUED, _REVOKED = "issued", "revoked"


class Authority:
    """A certificate authority in a folder; only ``target-appliance`` commands write there."""

    def __init__(self, folder: Path, trust_domain: str, ca: Issued, clock: Clock) -> None:
        self._folder = folder
        self._ca = ca
        self._clock = clock
        self.trust = Trust(trust_domain, (ca.certificate,))

    @classmethod
    def create(cls, folder: Path, trust_domain: str, clock: Clock) -> "Authority":
        """Make the authority in ``folder``, whole or not at all.

        Raises:
            AlreadyExistsError: there is one already; it is left alone.
        """
        if folder.exists():
            raise AlreadyExistsError(
                f"{folder} holds a certificate authority already",
                subject=f"folder {folder}",
                next_step="go on with target-appliance tenants add and serve",
            )
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ca = make_authority(trust_domain, clock.now())
        making = Path(tempfile.mkdtemp(prefix=".authority-", dir=folder.parent))
        try:
            write_file(making / _CA_KEY, ca.key_pem)
            write_file(making / _CA_CRT, ca.certificate_pem, mode=PUBLIC)
            (making / _ISSUED).mkdir(mode=0o700)
            making.rename(folder)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        sync_folder(folder.parent)
        return cls(folder, trust_domain, ca, clock)

    @classmethod
    def open(cls, folder: Path, trust_domain: str, clock: Clock) -> "Authority":
        """The authority that ``create`` made.

        Raises:
            PreconditionError: there is none yet.
            ConfigError: it was made for another trust domain.
            CertificateError: its files cannot be used, or it has expired.
        """
        try:
            ca = Issued((folder / _CA_CRT).read_bytes(), (folder / _CA_KEY).read_bytes())
            certificate = ca.certificate
            key = serialization.load_pem_private_key(ca.key_pem, password=None)
        except FileNotFoundError:
            raise PreconditionError(
                f"{folder} holds no certificate authority",
                subject=f"folder {folder}",
                next_step="run target-appliance init first",
            ) from None
        except (OSError, ValueError) as error:
            raise _unusable(folder, str(error)) from None
        if key.public_key() != certificate.public_key():
            raise _unusable(folder, f"{_CA_KEY} does not belong to {_CA_CRT}")
        if clock.now() > certificate.not_valid_after_utc:
            raise _unusable(folder, f"it expired at {certificate.not_valid_after_utc:%Y-%m-%d}")
        _check_domain(certificate, trust_domain)
        return cls(folder, trust_domain, ca, clock)

    @property
    def ca_pem(self) -> bytes:
        """The authority's certificate: what both sides verify each other with."""
        return self._ca.certificate_pem

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the authority's certificate, by which a pairing line names it."""
        return self._ca.certificate.fingerprint(hashes.SHA256())

    def server(self, names: Sequence[str]) -> Issued:
        """Certificate and key of the server for ``names``; issued anew when they changed or a third of life is left."""
        wanted = {general_name(name) for name in names}
        return self._kept(_SERVER, wanted, lambda: make_server(self._ca, names, self._clock.now()))

    def signer(self) -> Issued:
        """Certificate and key for signing documents; issued anew like the server's."""
        uri = f"spiffe://{self.trust.domain}/signer"
        wanted = {x509.UniformResourceIdentifier(uri)}
        return self._kept(_SIGNER, wanted, lambda: make_signer(self._ca, uri, self._clock.now()))

    def _kept(self, name: str, wanted: AbstractSet[x509.GeneralName], make: Callable[[], Issued]) -> Issued:
        path = self._folder / name
        if path.exists():
            pem = path.read_bytes()
            cut = pem.find(b"-----BEGIN PRIVATE KEY-----")
            current = Issued(pem[:cut], pem[cut:])
            if self._still_good(current, wanted):
                return current
        fresh = make()
        write_file(path, fresh.certificate_pem + fresh.key_pem, replace=True)
        return fresh

    def issue_agent(self, tenant: TenantId, agent: AgentId, role: Role = Role.AGENT) -> Issued:
        """A certificate with a key for one caller of ``tenant``; a copy of it, without the key, is kept.

        Raises:
            AccessDeniedError: the agent's was withdrawn.
        """
        key = new_key()
        return Issued(self.certify_agent(tenant, agent, key.public_key(), role), key_pem(key))

    def certify_agent(self, tenant: TenantId, agent: AgentId, key: PublicKey, role: Role = Role.AGENT) -> bytes:
        """PEM of a certificate for a key that a caller of ``tenant`` made; a copy of it is kept.

        Raises:
            AccessDeniedError: the agent's was withdrawn.
        """
        if (self._folder / _REVOKED / f"{agent}.crt").exists():
            raise AccessDeniedError(
                f"agent {agent} was revoked", subject=f"agent {agent}", next_step="register a new agent in its place"
            )
        uri = agent_uri(self.trust.domain, tenant, agent, role)
        pem = certify_agent(self._ca, uri, key, self._clock.now())
        write_file(self._folder / _ISSUED / f"{agent}.crt", pem, mode=PUBLIC, replace=True)
        return pem

    def withdraw(self, agent: AgentId) -> None:
        """The agent's certificate does not count as issued any more, for a catalog that is rebuilt."""
        folder = self._folder / _REVOKED
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            (self._folder / _ISSUED / f"{agent}.crt").rename(folder / f"{agent}.crt")
        sync_folder(folder)
        sync_folder(self._folder / _ISSUED)

    def issued(self) -> Iterator[bytes]:
        """PEM of every agent certificate that was issued and not withdrawn, expired ones included."""
        for path in sorted((self._folder / _ISSUED).glob("*.crt")):
            yield path.read_bytes()

    def _still_good(self, current: Issued, wanted: AbstractSet[x509.GeneralName]) -> bool:
        try:
            certificate = current.certificate
            certificate.verify_directly_issued_by(self._ca.certificate)
            serialization.load_pem_private_key(current.key_pem, password=None)
        except Exception:  # noqa: BLE001  whatever is wrong with the file, a fresh certificate cures it
            return False
        borne = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        return borne == wanted and self._clock.now() < _renew_at(certificate)


def _renew_at(certificate: x509.Certificate) -> datetime:
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - life / 3


def _check_domain(certificate: x509.Certificate, trust_domain: str) -> None:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    made_for = names.get_values_for_type(x509.UniformResourceIdentifier)
    if made_for != [f"spiffe://{trust_domain}"]:
        raise ConfigError(
            f"trust_domain is {trust_domain}, but the certificate authority was made for {', '.join(made_for)}",
            subject="config trust_domain",
            next_step="put the old trust_domain back: agents' certificates bear it",
        )


def _unusable(folder: Path, reason: str) -> CertificateError:
    return CertificateError(
        f"the certificate authority in {folder} cannot be used ({reason})",
        subject=f"folder {folder}",
        next_step="put its files back from a backup, or make a new authority with target-appliance init",
    )
