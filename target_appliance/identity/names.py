"""The name of a caller in its certificate: ``spiffe://<trust domain>/tenant/<tenant>/<role>/<uuid>``.

Rules: SPIFFE X509-SVID and SPIFFE-ID (https://github.com/spiffe/spiffe/tree/main/standards).
"""

import enum

from common.errors import CertificateError, InvalidInputError
from common.ids import AgentId, TenantId, parse_agent, parse_tenant

_SCHEME = "spiffe://"
_MAX_BYTES = 2048
_SHOWN = 200


class Role(enum.StrEnum):
    """What a certificate makes of its bearer within its tenant."""

    AGENT = "agent"
    """Writes replicas, and reads nothing back."""
    OPERATOR = "operator"
    """Looks at replicas and reads them, and writes nothing."""


def agent_uri(trust_domain: str, tenant: TenantId, agent: AgentId, role: Role = Role.AGENT) -> str:
    """The one URI subject alternative name of a caller's certificate."""
    return f"{_SCHEME}{trust_domain}/tenant/{tenant}/{role}/{agent}"


def parse_uri(uri: str, trust_domain: str) -> tuple[Role, TenantId, AgentId]:
    """Role, tenant and caller that ``uri`` names within ``trust_domain``.

    Raises:
        CertificateError: another trust domain, no path, or a path of another form.
    """
    shown = ascii(uri[:_SHOWN])
    domain, slash, path = uri.removeprefix(_SCHEME).partition("/")
    if not uri.startswith(_SCHEME) or len(uri.encode()) > _MAX_BYTES:
        raise refused(f"its name {shown} is not a SPIFFE id")
    if domain != trust_domain:
        raise refused(f"its name {shown} belongs to another trust domain than {trust_domain}")
    match path.split("/"):
        case ["tenant", tenant, ("agent" | "operator") as role, agent] if slash:
            try:
                return Role(role), parse_tenant(tenant), parse_agent(agent)
            except InvalidInputError as error:
                raise refused(f"its name {shown} is wrong: {error.message}") from None
    roles = " or ".join(Role)
    raise refused(
        f"its name {shown} is not of the form {_SCHEME}{trust_domain}/tenant/NAME/ROLE/UUID, ROLE being {roles}"
    )


def refused(reason: str) -> CertificateError:
    """The refusal of a client certificate; ``reason`` goes on after "because"."""
    return CertificateError(
        f"the client certificate is refused because {reason}",
        subject="certificate",
        next_step="issue the agent a certificate with target-appliance agents add",
    )
