"""The appliance's certificate authority on disk: made once by ``init``, then issues server and agent certificates.

Files in its folder: ``ca.crt`` and ``ca.key``, or after a first rotation ``ca.pem``, which has both and what else
counts (see succession.py), with ``ca.crt`` for people; ``server.pem`` (certificate and key together, so that both
change at once), ``signer.pem`` (the same, for signing documents), ``issued/<agent>.crt`` (what was issued, from which
the catalog's agents can be rebuilt), ``revoked/<agent>.crt``.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
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
from target_appliance.identity import foreign
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
    pem_of,
)
from target_appliance.identity.foreign import Foreign
from target_appliance.identity.names import Role, agent_uri
from target_appliance.identity.succession import Authorities, parse

_CA_CRT, _CA_KEY, _CA_PEM = "ca.crt", "ca.key", "ca.pem"
_SERVER, _SIGNER = "server.pem", "signer.pem"
_ISSUED, _REVOKED, _TRUSTED = "issued", "revoked", "trusted"


class Authority:
    """A certificate authority in a folder. May be used from any thread."""

    def __init__(self, folder: Path, trust_domain: str, held: Authorities, clock: Clock) -> None:
        self._folder = folder
        self._domain = trust_domain
        self._clock = clock
        self._held = held
        self._stamp = _stamp(folder)
        self.trust = Trust(trust_domain, held.roots, foreign.read(folder / _TRUSTED))

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
        return cls(folder, trust_domain, Authorities(ca), clock)

    @classmethod
    def open(cls, folder: Path, trust_domain: str, clock: Clock) -> "Authority":
        """The authority that ``create`` made.

        Raises:
            PreconditionError: there is none yet.
            ConfigError: it was made for another trust domain.
            CertificateError: its files cannot be used, or it has expired.
        """
        return cls(folder, trust_domain, _read(folder, trust_domain, clock), clock)

    def refresh(self) -> bool:
        """Take over what a command changed in the folder since; True when anything was.

        Raises:
            CertificateError, ConfigError, PreconditionError: it cannot be used; this authority stays as it was.
        """
        stamp = _stamp(self._folder)
        if stamp == self._stamp:
            return False
        held = _read(self._folder, self._domain, self._clock)
        trust = Trust(self._domain, held.roots, foreign.read(self._folder / _TRUSTED))
        self._held, self.trust, self._stamp = held, trust, stamp
        return True

    @property
    def held(self) -> Authorities:
        """The authority and its predecessors that count."""
        return self._held

    @property
    def clients_pem(self) -> bytes:
        """All authorities whose certificates TLS is to let through; ``trust`` says for whom each vouches."""
        theirs = (root for one in self.trust.foreign for root in one.roots)
        return self._held.bundle_pem + b"".join(map(pem_of, theirs))

    def entrust(self, tenant: TenantId, domain: str, bundle: bytes) -> Foreign:
        """Let the authorities in ``bundle`` (PEM) vouch for callers of ``tenant``, in place of what it had.

        Raises:
            InvalidInputError: they are no authorities that count.
            PreconditionError: one of them vouches for somebody else.
        """
        added = Foreign(tenant, domain, foreign.parse_bundle(bundle, self._clock.now()))
        foreign.require_own(added, self.trust.foreign, self._held.roots)
        foreign.write(self._folder / _TRUSTED, added)
        self.refresh()
        return added

    def distrust(self, tenant: TenantId) -> bool:
        """Let the tenant's own authorities vouch no more; False when it had none."""
        return foreign.remove(self._folder / _TRUSTED, tenant) and self.refresh()

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the authority that issues."""
        return self._held.ca.certificate_pem

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the authority's certificate, by which a pairing line names it."""
        return self._held.ca.certificate.fingerprint(hashes.SHA256())

    def rotate(self) -> None:
        """Put a new authority in place of this one, which goes on counting until ``retire``.

        Raises:
            PreconditionError: too many count already.
        """
        if self._held.full:
            raise PreconditionError(
                f"{len(self._held.roots)} authorities count already",
                subject="authority",
                next_step="let the oldest go first, with target-appliance ca retire",
            )
        self._keep(self._held.succeeded(self._domain, self._clock.now()))

    def retire(self, *, force: bool = False) -> tuple[x509.Certificate, ...]:
        """Let the earlier authorities count no more; returns them.

        Raises:
            PreconditionError: one of them issued a certificate that is still in use, and ``force`` is false.
        """
        waiting = self.unrenewed()
        if waiting and not force:
            raise PreconditionError(
                f"{len(waiting)} callers still have certificates of an earlier authority ({', '.join(waiting[:5])}"
                f"{', …' if len(waiting) > 5 else ''})",
                subject="authority",
                next_step="wait until they have renewed (target-appliance ca status), revoke them, or give --force,"
                " after which they have to be paired again",
            )
        gone = self._held.earlier
        self._keep(self._held.alone())
        return gone

    def unrenewed(self) -> tuple[str, ...]:
        """Callers' ids whose newest certificate is valid, and by an earlier authority."""
        now, ours = self._clock.now(), self._held.ca.certificate
        found = []
        for path in sorted((self._folder / _ISSUED).glob("*.crt")):
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            if certificate.not_valid_after_utc > now and not issued_by(certificate, ours):
                found.append(path.stem)
        return tuple(found)

    def _keep(self, held: Authorities) -> None:
        """The file is the change; what follows only tidies up."""
        write_file(self._folder / _CA_PEM, held.to_pem(), replace=True)
        write_file(self._folder / _CA_CRT, held.ca.certificate_pem, mode=PUBLIC, replace=True)
        (self._folder / _CA_KEY).unlink(missing_ok=True)
        self.refresh()

    def server(self, names: Sequence[str]) -> Issued:
        """Certificate and key of the server for ``names``; issued anew when they changed or a third of life is left."""
        wanted = {general_name(name) for name in names}
        return self._kept(_SERVER, wanted, lambda: make_server(self._held.ca, names, self._clock.now()))

    def signer(self) -> Issued:
        """Certificate and key for signing documents; issued anew like the server's."""
        uri = f"spiffe://{self.trust.domain}/signer"
        wanted = {x509.UniformResourceIdentifier(uri)}
        return self._kept(_SIGNER, wanted, lambda: make_signer(self._held.ca, uri, self._clock.now()))

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
        self.refuse_withdrawn(agent)
        uri = agent_uri(self.trust.domain, tenant, agent, role)
        pem = certify_agent(self._held.ca, uri, key, self._clock.now())
        write_file(self._folder / _ISSUED / f"{agent}.crt", pem, mode=PUBLIC, replace=True)
        try:
            self.refuse_withdrawn(agent)  # withdrawn meanwhile: it must not count as issued again
        except AccessDeniedError:
            (self._folder / _ISSUED / f"{agent}.crt").unlink(missing_ok=True)
            raise
        return pem

    def refuse_withdrawn(self, agent: AgentId) -> None:
        """Return if the agent's certificates were not withdrawn. Raises AccessDeniedError."""
        if (self._folder / _REVOKED / f"{agent}.crt").exists():
            raise AccessDeniedError(
                f"agent {agent} was revoked", subject=f"agent {agent}", next_step="register a new agent in its place"
            )

    def withdraw(self, agent: AgentId) -> None:
        """The agent's certificate does not count as issued any more, for a catalog that is rebuilt."""
        folder = self._folder / _REVOKED
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            (self._folder / _ISSUED / f"{agent}.crt").rename(folder / f"{agent}.crt")
        except FileNotFoundError:  # the tenant's own authority issued it: the name alone is kept
            (folder / f"{agent}.crt").touch()
        sync_folder(folder)
        sync_folder(self._folder / _ISSUED)

    def issued(self) -> Iterator[bytes]:
        """PEM of every agent certificate that was issued and not withdrawn, expired ones included."""
        for path in sorted((self._folder / _ISSUED).glob("*.crt")):
            yield path.read_bytes()

    def _still_good(self, current: Issued, wanted: AbstractSet[x509.GeneralName]) -> bool:
        try:
            certificate = current.certificate
            certificate.verify_directly_issued_by(self._held.ca.certificate)
            serialization.load_pem_private_key(current.key_pem, password=None)
        except Exception:  # noqa: BLE001  whatever is wrong with the file, a fresh certificate cures it
            return False
        borne = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        return borne == wanted and self._clock.now() < renew_at(certificate)


def renew_at(certificate: x509.Certificate) -> datetime:
    """When a third of the certificate's life is left."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - life / 3


def issued_by(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` signed ``leaf``."""
    try:
        leaf.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _stamp(folder: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Changes whenever the authority's file, or a tenant's in the folder of trusted ones, was replaced."""
    paths = [folder / name for name in (_CA_PEM, _CA_CRT, _TRUSTED)]
    paths += sorted((folder / _TRUSTED).glob("*.json"))
    return tuple(map(_stamp_of, paths))


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _read(folder: Path, trust_domain: str, clock: Clock) -> Authorities:
    try:
        if (folder / _CA_PEM).exists():
            held = parse((folder / _CA_PEM).read_bytes())
        else:
            held = parse((folder / _CA_KEY).read_bytes() + (folder / _CA_CRT).read_bytes())
    except FileNotFoundError:
        raise PreconditionError(
            f"{folder} holds no certificate authority",
            subject=f"folder {folder}",
            next_step="run target-appliance init first",
        ) from None
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise _unusable(folder, str(error)) from None
    certificate = held.ca.certificate
    if clock.now() > certificate.not_valid_after_utc:
        raise _unusable(folder, f"it expired at {certificate.not_valid_after_utc:%Y-%m-%d}")
    _check_domain(certificate, trust_domain)
    return held


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
