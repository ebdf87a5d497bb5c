"""What an agent asks a certificate for: a public key, and proof that it holds the private one. Pure."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from common.errors import InvalidInputError
from target_appliance.identity.certificates import PublicKey
from target_appliance.identity.strength import weakness

_MOST_BYTES: Final = 4096


def requested_key(request: bytes) -> PublicKey:
    """The public key of a PKCS #10 request (DER). Names and extensions in it are not looked at.

    Raises:
        InvalidInputError: it is no such request, its signature is not by that key, or the key is weak.
    """
    try:
        if len(request) > _MOST_BYTES:
            raise _refused("is too long")
        parsed = x509.load_der_x509_csr(request)
        key = parsed.public_key()
        valid = parsed.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise _refused("is malformed") from None
    if not valid:
        raise _refused("is not signed by its own key")
    weak = weakness(key)
    if weak is not None or not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
        raise _refused(f"is for a key that does not count: {weak}")
    return key


def _refused(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"the certificate request {why}", subject="certificate request", next_step="upgrade the agent"
    )
