"""The date on a vCenter's certificate, whoever signed it: read, not trusted."""

import socket
import ssl
from datetime import datetime

from cryptography import x509


def expiry(host: str, port: int, seconds: float) -> datetime:
    """When the certificate shown at the address expires, in UTC.

    Nothing is sent over the connection: it may be to anybody.

    Raises:
        OSError: nobody answers there, or not with TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=seconds) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        shown = secure.getpeercert(binary_form=True) or b""
    return x509.load_der_x509_certificate(shown).not_valid_after_utc
