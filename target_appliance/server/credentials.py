"""What the appliance shows in TLS, and whose certificates it asks for."""

from collections.abc import Sequence

import grpc

from target_appliance.identity.authority import Authority


def server_credentials(authority: Authority, names: Sequence[str], *, ask_clients: bool) -> grpc.ServerCredentials:
    """The server's certificate for ``names``, with the authority's behind it; clients' are demanded or not asked for.

    Raises:
        CertificateError: the authority cannot issue the certificate.
    """
    own = authority.server(names)
    # The authority's own certificate goes along: an agent that is being paired knows only its fingerprint.
    shown = [(own.key_pem, own.certificate_pem + authority.ca_pem)]
    if not ask_clients:
        return grpc.ssl_server_credentials(shown)
    return grpc.ssl_server_credentials(shown, root_certificates=authority.ca_pem, require_client_auth=True)
