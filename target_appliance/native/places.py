"""Where VMs are made at the target's vCenter: what the configuration names, looked up by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from common.errors import NotFoundError
from common.vsphere import properties
from common.vsphere.properties import moref_of
from common.vsphere.session import Session
from target_appliance.native.preflight import Host
from target_appliance.native.section import VCenterSection


@dataclass(frozen=True, slots=True)
class Places:
    """References of what the configuration names."""

    folder: Any
    pool: Any
    datastore: Any
    free_bytes: int
    networks: Mapping[str, Any]
    """Those of the cluster, by name."""
    hosts: tuple[Host, ...]
    appliance: str
    """Moref of the appliance's own VM."""
    appliance_encrypted: bool


def find(session: Session, section: VCenterSection) -> Places:
    """What the configuration names.

    Raises:
        NotFoundError: one of them is not there, or cannot be seen.
    """
    cluster = _named(session, vim.ComputeResource, "cluster", section.cluster, ("host", "network", "resourcePool"))
    store = _named(session, vim.Datastore, "datastore", section.datastore, ("summary.freeSpace",))
    appliance = _named(session, vim.VirtualMachine, "appliance_vm", section.appliance_vm, ("config.keyId", "parent"))
    folder = _folder(session, section, appliance.values.get("parent"))
    hosts = {moref_of(one) for one in cluster.values.get("host") or []}
    # Of the cluster alone: another datacenter may have a network of the same name, and it need not be the isolated one.
    reached = {moref_of(one) for one in cluster.values.get("network") or []}
    networks = properties.of_all(session, "listing the networks", vim.Network, ("name",))
    return Places(
        folder,
        cluster.values["resourcePool"],
        session.reference(vim.Datastore, store.moref),
        int(store.values.get("summary.freeSpace") or 0),
        {
            one.values["name"]: _network(session, one.moref)
            for one in networks
            if one.moref in reached and "name" in one.values
        },
        tuple(one for one in _hosts(session, store.moref) if one.moref in hosts),
        appliance.moref,
        appliance.values.get("config.keyId") is not None,
    )


def _folder(session: Session, section: VCenterSection, default: Any) -> Any:
    if section.folder is None:
        return default
    found = _named(session, vim.Folder, "folder", section.folder, ("childType",))
    return session.reference(vim.Folder, found.moref)


def _named(session: Session, kind: type, key: str, name: str, paths: Sequence[str]) -> properties.Found:
    found = properties.of_all(session, f"looking for {key} {name}", kind, ("name", *paths))
    named = [one for one in found if one.values.get("name") == name]
    if len(named) == 1:
        return named[0]
    what = "is not at the vCenter" if not named else "is at the vCenter more than once"
    raise NotFoundError(
        f"{key} {name} {what}", subject=f"{key} {name}", next_step=f"set {key} in the [vcenter] section"
    )


def _network(session: Session, moref: str) -> Any:
    kind = vim.dvs.DistributedVirtualPortgroup if moref.startswith("dvportgroup") else vim.Network
    return session.reference(kind, moref)


def _hosts(session: Session, datastore: str) -> list[Host]:
    paths = ("name", "runtime.connectionState", "runtime.cryptoState", "datastore")
    return [
        Host(
            one.moref,
            str(one.values.get("name", one.moref)),
            one.values.get("runtime.connectionState") == "connected",
            str(one.values.get("runtime.cryptoState") or ""),
            datastore in {moref_of(store) for store in one.values.get("datastore") or []},
        )
        for one in properties.of_all(session, "listing the hosts", vim.HostSystem, paths)
    ]
