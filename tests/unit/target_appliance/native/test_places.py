from types import SimpleNamespace

from pyVmomi import vim

from common.vsphere.properties import Found
from target_appliance.native import places

SECTION = SimpleNamespace(cluster="c", datastore="d", appliance_vm="a", folder=None)


def reference(moref):
    return SimpleNamespace(_GetMoId=lambda: moref)


def test_a_network_of_that_name_elsewhere_is_not_taken(monkeypatch):
    there = {
        vim.ComputeResource: [
            Found("c-1", {"name": "c", "network": [reference("network-1")], "resourcePool": "p"}, {})
        ],
        vim.Datastore: [Found("d-1", {"name": "d"}, {})],
        vim.VirtualMachine: [Found("vm-1", {"name": "a", "parent": "f"}, {})],
        vim.Network: [Found("network-1", {"name": "isolated"}, {}), Found("network-2", {"name": "isolated"}, {})],
        vim.HostSystem: [],
    }
    monkeypatch.setattr(places.properties, "of_all", lambda _session, _what, kind, _paths: there[kind])

    found = places.find(SimpleNamespace(reference=lambda _kind, moref: moref), SECTION)

    assert found.networks == {"isolated": "network-1"}
