"""What stands around a VM: its host, its datastores, its key provider, who keeps it from moving. For preflight only."""

from typing import Any

from pyVmomi import vim

from common.errors import KeysapartError, SourceUnavailableError
from common.vsphere import properties
from common.vsphere.session import Session
from source_agent.vsphere.describe import plain_name
from source_agent.vsphere.port import KeyProvider, Surroundings

_PATHS = ("name", "config.keyId", "datastore", "disabledMethod", "guest.toolsRunningStatus", "runtime.host")
_KINDS = {
    "vCenter": KeyProvider.STANDARD,
    "nativeProvider": KeyProvider.NATIVE,
    "trustAuthority": KeyProvider.TRUST_AUTHORITY,
}


def read(session: Session, moref: str) -> Surroundings:
    """See VSphere.surroundings."""
    machine = session.reference(vim.VirtualMachine, moref)
    values = properties.of_object(session, f"reading VM {moref}", f"vm {moref}", machine, _PATHS).values
    host = values.get("runtime.host")
    stores = [_seen(session, "datastore", one, "summary.name", "summary.type") for one in values.get("datastore") or []]
    return Surroundings(
        host=plain_name(_seen(session, "host", host, "name").get("name", "")) if host is not None else "",
        vsan_datastores=tuple(sorted(one["summary.name"] for one in stores if one.get("summary.type") == "vsan")),
        key_provider=_key_provider(session, values.get("config.keyId")),
        relocation_disabled="RelocateVM_Task" in (values.get("disabledMethod") or []),
        tools_running=values.get("guest.toolsRunningStatus") == "guestToolsRunning",
    )


def _seen(session: Session, kind: str, reference: Any, *paths: str) -> dict[str, Any]:
    """Properties of an object; empty where the login may not see it."""
    moref = properties.moref_of(reference)
    try:
        return properties.of_object(session, f"reading {kind} {moref}", f"{kind} {moref}", reference, paths).values
    except SourceUnavailableError:
        raise
    except KeysapartError:
        return {}


def _key_provider(session: Session, key: Any) -> KeyProvider:
    """The kind of provider behind a VM's key; its name and the key's id go no further."""
    if key is None:
        return KeyProvider.NONE
    wanted = key.providerId.id if key.providerId is not None else None

    def ask() -> Any:
        manager = session.content.cryptoManager
        return manager.ListKmipServers() if manager is not None else []

    try:
        providers = session.read("listing the key providers", session.settings.subject, ask)
    except SourceUnavailableError:
        raise
    except KeysapartError:  # a login that reads VMs need not see key providers
        return KeyProvider.UNKNOWN
    kinds = [one.managementType for one in providers or [] if one.clusterId.id == wanted]
    return _KINDS.get(kinds[0] or "", KeyProvider.UNKNOWN) if kinds else KeyProvider.UNKNOWN
