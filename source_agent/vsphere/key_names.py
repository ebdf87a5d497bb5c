"""Ids of keys and names of key providers: read for evidence only, where they are digested, and nowhere kept."""

from typing import Any

from pyVmomi import vim

from common.errors import KeysapartError, SourceUnavailableError
from common.vsphere import properties
from common.vsphere.session import Session
from source_agent.vsphere.port import KeyNames

_PATHS = ("config.keyId", "config.hardware.device")


def read(session: Session, moref: str) -> KeyNames:
    """See VSphere.key_names."""
    machine = session.reference(vim.VirtualMachine, moref)
    values = properties.of_object(session, f"reading VM {moref}", f"vm {moref}", machine, _PATHS).values
    devices = values.get("config.hardware.device") or []
    backings = [device.backing for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]
    keys = [values.get("config.keyId"), *(_key(backing) for backing in backings)]
    ids = {key.keyId for key in keys if key is not None}
    providers = {key.providerId.id for key in keys if key is not None and key.providerId is not None}
    return KeyNames(tuple(sorted(ids)), tuple(sorted(providers | _listed(session))))


def _key(backing: Any) -> Any:
    return getattr(backing, "keyId", None)


def _listed(session: Session) -> set[str]:
    """All providers of the vCenter, where the login may see them."""

    def ask() -> Any:
        manager = session.content.cryptoManager
        return manager.ListKmipServers() if manager is not None else []

    try:
        clusters = session.read("listing the key providers", session.settings.subject, ask)
    except SourceUnavailableError:
        raise
    except KeysapartError:  # a login that reads VMs need not see key providers
        return set()
    return {one.clusterId.id for one in clusters or []}
