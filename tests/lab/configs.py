"""Configuration files of both halves, ready for the lab."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.site import Lab

TRUST_DOMAIN = "keysapart.lab"


def agent_toml(lab: "Lab") -> str:
    """The source agent's; ``target-appliance tenants add NAME --out DIR/agent`` fills the folder it names."""
    return f"""\
state_dir = "agent-state"

[target]
address = "127.0.0.1:{lab.data_port}"
ca_file = "agent/ca.crt"
certificate_file = "agent/agent.crt"
key_file = "agent/agent.key"
unreachable_minutes = 0

[vcenter]
host = "{lab.vcenter.host}"
port = {lab.vcenter.port}
user = "{lab.vcenter.user}"
password_file = "{lab.vcenter.password_file.name}"
ca_file = "{lab.vcenter.ca_file.name}"

[reader]
transport = "hotadd"
agent_vm = "agent-vm"
device_dir = "devices"
vddk_dir = "vddk"
data_port = {lab.vcenter.data_port}

[snapshot]
quiesce = "none"

[sync]
parallel_disks = 2

[log]
level = "info"
"""


def appliance_toml(lab: "Lab") -> str:
    """The target appliance's, with the target site's KMIP server."""
    return f"""\
state_dir = "appliance-state"
store_dir = "store"
trust_domain = "{TRUST_DOMAIN}"

[listen]
data = "127.0.0.1:{lab.data_port}"
health = "127.0.0.1:{lab.health_port}"
enrollment = "127.0.0.1:{lab.enrollment_port}"
names = ["localhost", "127.0.0.1"]

[kms]
driver = "kmip"

[kms.kmip]
endpoints = ["{lab.kms.endpoint}"]
server_name = "{lab.kms.server_name}"
ca_file = "kms/ca.crt"
certificate_file = "kms/client.crt"
key_file = "kms/client.key"

[limits]
streams_per_tenant = 16
idle_seconds = 60

[sync]
park_hours = 0

[log]
level = "info"
"""
