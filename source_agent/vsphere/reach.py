"""Which hosts may come to run a VM, for all VMs in a handful of calls. For ``doctor`` alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyVmomi import vim

from common.vsphere import properties
from common.vsphere.properties import Found, moref_of
from common.vsphere.session import Session
from source_agent.vsphere.describe import plain_name


def possible_hosts(session: Session) -> dict[str, tuple[str, ...]]:
    """See VSphere.possible_hosts.

    Raises:
        KeysapartError: as Session.read does.
    """
    return by_vm(
        properties.of_all(session, "listing the VMs", vim.VirtualMachine, ("datastore", "runtime.host")),
        properties.of_all(session, "listing the hosts", vim.HostSystem, ("name", "parent")),
        properties.of_all(session, "listing the datastores", vim.Datastore, ("host",)),
    )


def by_vm(vms: Sequence[Found], hosts: Sequence[Found], stores: Sequence[Found]) -> dict[str, tuple[str, ...]]:
    """Names of hosts by the VM's moref. Pure."""
    names = {one.moref: plain_name(one.values.get("name", one.moref)) for one in hosts}
    parents = {one.moref: moref_of(one.values["parent"]) for one in hosts if one.values.get("parent") is not None}
    mounts = {one.moref: _mounts(one.values["host"]) for one in stores if one.values.get("host")}
    return {vm.moref: _of(vm.values, names, parents, mounts) for vm in vms}


def _of(
    vm: Mapping[str, Any], names: Mapping[str, str], parents: Mapping[str, str], mounts: Mapping[str, set[str]]
) -> tuple[str, ...]:
    here = moref_of(vm["runtime.host"]) if vm.get("runtime.host") is not None else ""
    if here not in parents:
        return ()
    beside = {host for host, parent in parents.items() if parent == parents[here]}
    for store in map(moref_of, vm.get("datastore") or []):
        beside &= mounts.get(store, beside)  # a datastore that does not say who sees it rules nobody out
    return tuple(sorted(names[host] for host in {here, *beside}))


def _mounts(mounts: Sequence[Any]) -> set[str]:
    """Hosts that reach a datastore, by moref; where it is not said whether they do, they do."""
    return {moref_of(one.key) for one in mounts if one.mountInfo.accessible is not False}
