"""Heads of the audit log as signed files: what somebody keeps elsewhere, so that the log cannot be written anew."""

from pathlib import Path
from typing import Final

from cryptography import x509

from common.errors import DamagedError, InvalidInputError, NotFoundError
from target_appliance.audit.chain import Head
from target_appliance.identity.authn import Trust
from target_appliance.identity.signing import MOST_BYTES, Signer, check, fingerprint_of

KIND: Final = "audit head"


def to_file(head: Head, signer: Signer) -> bytes:
    """The signed document."""
    return signer.sign(KIND, {"sequence": head.sequence, "digest": head.digest})


def from_file(path: Path, trust: Trust, also: Path | None = None) -> Head:
    """The head in a signed file, which one of our authorities vouches for, or the one whose certificate is ``also``.

    Raises:
        NotFoundError, InvalidInputError: there is no such file.
        DamagedError, CertificateError: it is not what was signed, or nobody vouches for it.
    """
    roots = [*trust.roots, *([] if also is None else [certificate(also)])]
    body = check(read_file(path), KIND, [fingerprint_of(root) for root in roots]).body
    sequence, digest = body.get("sequence"), body.get("digest")
    if type(sequence) is not int or not isinstance(digest, str):
        raise DamagedError(f"{path} names no head", subject=KIND, next_step="get it anew from where it was made")
    return Head(sequence, digest)


def read_file(path: Path) -> bytes:
    """A signed document's content. Raises NotFoundError, InvalidInputError."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", subject=f"file {path}", next_step="check the name") from None
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be read ({error.strerror})", subject=f"file {path}", next_step="check the name"
        ) from None


def certificate(path: Path) -> x509.Certificate:
    """The certificate in a PEM file. Raises NotFoundError, InvalidInputError."""
    try:
        return x509.load_pem_x509_certificate(read_file(path))
    except ValueError:
        raise InvalidInputError(
            f"{path} holds no certificate", subject=f"file {path}", next_step="give the authority's ca.crt"
        ) from None
