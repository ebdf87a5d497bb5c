"""Where VMs are, in a handful of small properties: neither devices nor snapshots are read, so 500 VMs cost little."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from common.ids import ReplicaId
from common.vsphere import properties
from common.vsphere.properties import moref_of
from common.vsphere.session import Session
from source_agent.vsphere import describe
from source_agent.vsphere.port import Placement

_VM_PATHS = (
    "name",
    "config.instanceUuid",
    "config.template",
    "customValue",
    "datastore",
    "parent",
    "runtime.host",
)


def placements(session: Session) -> list[Placement]:
    """Every VM that the login may see, by name; see ``VSphere.placements``.

    Raises:
        KeysapartError: as Session.read does.
    """
    found = properties.of_all(session, "listing the VMs", vim.VirtualMachine, _VM_PATHS)
    names = _Names(
        hosts=_names(session, "listing the hosts", vim.HostSystem),
        datastores=_names(session, "listing the datastores", vim.Datastore),
        folders=folder_paths(_tree(session)),
        fields=_fields(session),
    )
    shown = [names.placement(one.moref, one.values) for one in found if describe.describable(one.values)]
    return sorted(shown, key=lambda one: (one.name, one.moref))


@dataclass(frozen=True, slots=True)
class _Names:
    """What people call the objects, by moref; and custom attributes, by key."""

    hosts: Mapping[str, str]
    datastores: Mapping[str, str]
    folders: Mapping[str, str]
    fields: Mapping[int, str]

    def placement(self, moref: str, values: Mapping[str, Any]) -> Placement:
        """The VM of ``_VM_PATHS``' values."""
        host, parent = values.get("runtime.host"), values.get("parent")
        stores = [moref_of(one) for one in values.get("datastore") or []]
        custom = [one for one in values.get("customValue") or [] if one.key in self.fields]
        return Placement(
            moref=moref,
            name=describe.plain_name(values.get("name", "")),
            instance_uuid=ReplicaId(values["config.instanceUuid"].lower()),
            template=bool(values.get("config.template")),
            host=self.hosts.get(moref_of(host), moref_of(host)) if host is not None else "",
            datastores=tuple(sorted(self.datastores.get(store, store) for store in stores)),
            folder=self.folders.get(moref_of(parent), "") if parent is not None else "",
            attributes={self.fields[one.key]: one.value for one in custom if getattr(one, "value", "")},
        )


def folder_paths(tree: Mapping[str, tuple[str, str | None]]) -> dict[str, str]:
    """Paths by moref of ``tree``, which has the name and parent of each folder and datacenter. Pure."""
    paths: dict[str, str] = {}
    for moref in tree:
        names: list[str] = []
        at: str | None = moref
        while at is not None and at in tree and len(names) <= len(tree):
            name, at = tree[at]
            names.append(name)
        paths[moref] = "".join(f"/{name}" for name in reversed(names[:-1])) or "/"
    return paths


def _tree(session: Session) -> dict[str, tuple[str, str | None]]:
    root = moref_of(session.content.rootFolder)
    tree: dict[str, tuple[str, str | None]] = {root: ("", None)}
    for kind in (vim.Folder, vim.Datacenter):
        for one in properties.of_all(session, "listing the folders", kind, ("name", "parent")):
            parent = one.values.get("parent")
            if one.moref != root:
                above = moref_of(parent) if parent is not None else None
                tree[one.moref] = (describe.plain_name(one.values.get("name", "")), above)
    return tree


def _names(session: Session, what: str, kind: type) -> dict[str, str]:
    found = properties.of_all(session, what, kind, ("name",))
    return {one.moref: describe.plain_name(one.values.get("name", one.moref)) for one in found}


def _fields(session: Session) -> dict[int, str]:
    """Names of custom attributes by key; none where the vCenter has no manager for them."""
    manager = session.content.customFieldsManager
    if manager is None:
        return {}
    found = properties.of_object(session, "reading custom attributes", "vcenter", manager, ("field",))
    return {field.key: field.name for field in found.values.get("field") or []}
