"""Renewing the agent's certificate: when two thirds of its life are over, with the certificate itself as the proof.

The new key and certificate replace the old ones in one file; syncs under way go on over their connections, and the next
ones dial with the new certificate.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from common import log
from common.clock import Clock
from common.errors import CertificateError, KeysapartError
from common.tls import Identity, load_identity
from source_agent.config import AgentConfig
from source_agent.pairing import files as pair_files
from source_agent.pairing.enroll import Paired, check_answer, issued_by, key_pem, new_key, request_for
from source_agent.stream.channel import Target

_SPREAD: Final = 0.05
"""Part of the life over which agents that paired together spread their renewals."""
_LATE: Final = 0.75
"""Part of the life after which a certificate that nobody renews is worth an alarm."""
_log = log.get("certificate")


def renew_at(certificate: x509.Certificate) -> datetime:
    """When the certificate is to be renewed: after two thirds of its life and a bit that its serial number decides."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    bit = certificate.serial_number % 1000 / 1000 * _SPREAD
    return begin + (end - begin) * (2 / 3 + bit)


def require_long_life(certificate: x509.Certificate, now: datetime) -> None:
    """Return unless the certificate will end soon without having been renewed.

    Raises:
        CertificateError: it will.
    """
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > begin + (end - begin) * _LATE:
        raise CertificateError(
            f"the agent's certificate was not renewed and ends in {(end - now).days} days, on {end:%Y-%m-%d}",
            subject="certificate",
            next_step="see the agent's log, or put a new one in its place",
        )


def by_the_target(identity: Identity) -> bool:
    """Whether the target's own authority issued the certificate; it renews no other."""
    return any(issued_by(identity.certificate, root) for root in x509.load_pem_x509_certificates(identity.ca_pem))


def renewed(config: AgentConfig, clock: Clock) -> Identity:
    """The agent's identity, renewed if that is due. One process at a time.

    Raises:
        CertificateError: the files cannot be used.
        KeysapartError: it is due, and cannot be done now; the files are as they were.
    """
    files = config.target.files
    identity = load_identity(files, clock)
    if clock.now() < renew_at(identity.certificate) or not by_the_target(identity):
        return identity
    with _alone(config.state_dir):
        identity = load_identity(files, clock)
        if clock.now() < renew_at(identity.certificate):
            return identity  # another process was faster
        key = new_key()
        with closing(Target(config.target.address, identity, config.target.server_name)) as target:
            answer = target.renew_certificate(request_for(key))
        check_answer(key, answer.certificate, answer.authorities, config.target.address)
        pair_files.write(files, Paired(key_pem(key), answer.certificate, answer.authorities))
        fresh = load_identity(files, clock)
    _log.info("certificate renewed", until=f"{fresh.not_after:%Y-%m-%d}")
    return fresh


def renew_before_sync(config: AgentConfig, clock: Clock) -> None:
    """Renew if it is due; while the certificate counts, not being able to is told in the log and no more."""
    try:
        renewed(config, clock)
    except KeysapartError as error:
        _log.warning("the certificate was not renewed", cause=error.message, next_step=error.next_step)


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(state_dir / "renew.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
