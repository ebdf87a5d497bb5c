"""The agent's life: load, check, connect, serve one command, close in reverse."""


from common import log
from common.clock import Clock
from common.errors import CertificateError
from common.ids import AgentId, parse_agent
from common.tls import Identity
from source_agent.config import AgentConfig
from source_agent.vsphere.connection import VCenterSettings, connect
from source_agent.vsphere.port import VSphere

_log = log.get("agent")


def agent_id(identity: Identity) -> AgentId:
    """This agent's id, which its certificate states: ``spiffe://domain/tenant/NAME/agent/ID``.

    Raises:
        CertificateError: the certificate is not an agent's.
    """
    for uri in identity.uris:
        path = uri.removeprefix("spiffe://").split("/")
        if len(path) == 5 and path[1] == "tenant" and path[3] == "agent":
            return parse_agent(path[4])
    raise CertificateError(
        f"{identity.files.certificate} is not the certificate of an agent",
        subject=f"file {identity.files.certificate}",
        next_step="use the agent.crt that target-appliance tenants add wrote",
    )


def open_vsphere(config: AgentConfig, clock: Clock) -> VSphere:
    """A logged-in vCenter; the caller closes it."""
    vcenter = config.vcenter
    return connect(
        VCenterSettings(
            host=vcenter.host,
            port=vcenter.port,
            user=vcenter.user,
            password_file=vcenter.password_file,
            ca_file=vcenter.ca_file,
            certificate_sha256=vcenter.certificate_sha256,
            timeout_seconds=vcenter.timeout_seconds,
        ),
        clock,
    )
