"""Which public keys count. Pure."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

_RSA_BITS: Final = 2048
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)


def weakness(key: object) -> str | None:
    """Why a public key does not count; None when it does."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA key has {key.key_size} bits, fewer than {_RSA_BITS}" if key.key_size < _RSA_BITS else None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return None
    return "key is neither RSA nor on the curves P-256 or P-384"
