"""SHA-1 of the vCenter's certificate, after it was verified: how VDDK wants to recognise the server."""

import hashlib
import http.client

from common.vsphere.faults import translate
from common.vsphere.settings import PinnedConnection, VCenterSettings, tls_context


def thumbprint(settings: VCenterSettings) -> str:
    """The fingerprint as 20 hex pairs with colons, of a certificate that chain and name, or the pin, vouch for.

    Raises:
        KeysapartError: the vCenter does not answer, or its certificate is not trusted.
    """
    context = tls_context(settings)
    address = (settings.host, settings.port)
    connection = (
        PinnedConnection(*address, context=context, timeout=settings.timeout_seconds, pin=settings.pin)
        if settings.pin
        else http.client.HTTPSConnection(*address, context=context, timeout=settings.timeout_seconds)
    )
    try:
        connection.connect()
        certificate = connection.sock.getpeercert(binary_form=True)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise translate(error, "reading the vCenter's certificate", settings.subject, address=where) from error
    finally:
        connection.close()
    return ":".join(f"{byte:02X}" for byte in hashlib.sha1(certificate or b"", usedforsecurity=False).digest())
