"""The source's part of evidence: what the target must hold nowhere, in a form that does not tell it.

The file lists lengths and salted digests of key ids and provider names (``common/sought.py``), for the target to look
for them; it names the VM, and neither a key nor a provider.
"""

import json
from typing import Any

from common.clock import Clock
from common.errors import PreconditionError
from common.ids import AgentId
from common.sought import seek
from source_agent.vsphere.port import VSphere


def sought_of(vsphere: VSphere, vm: str, agent: AgentId, clock: Clock) -> dict[str, Any]:
    """The file's members.

    Raises:
        NotFoundError: there is no such VM.
        PreconditionError: nothing that encrypts it has a name that could be looked for.
    """
    info = vsphere.vm(vm)
    names = vsphere.key_names(info.moref)
    texts = [("key id", one) for one in names.key_ids] + [("key provider", one) for one in names.providers]
    sought = seek(texts)
    if not sought.patterns:
        raise PreconditionError(
            f"VM {info.name} has no key id or key provider that could be looked for",
            subject=f"vm {info.name}",
            next_step="choose an encrypted VM, and a login that may see its key provider",
        )
    return {
        **sought.members(),
        "replica": info.instance_uuid,
        "agent": agent,
        "time": clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "key_ids": len(names.key_ids),
        "key_providers": len(names.providers),
    }


def to_file(members: dict[str, Any]) -> bytes:
    """One line of canonical JSON."""
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode() + b"\n"
