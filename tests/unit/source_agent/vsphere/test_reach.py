import pytest
from pyVmomi import vim

from common.vsphere.properties import Found
from source_agent.vsphere.reach import by_vm

CLUSTER, OTHER = vim.ClusterComputeResource("domain-c1"), vim.ClusterComputeResource("domain-c2")
HOSTS = [
    Found(f"host-{number}", {"name": f"esx{number}", "parent": parent}, {})
    for number, parent in ((1, CLUSTER), (2, CLUSTER), (3, CLUSTER), (4, OTHER))
]


def store(moref, **accessible):
    """A datastore with its mounts, by host."""
    mounts = [
        vim.Datastore.HostMount(
            key=vim.HostSystem(host.replace("_", "-")),
            mountInfo=vim.host.MountInfo(accessMode="readWrite", accessible=on),
        )
        for host, on in accessible.items()
    ]
    return Found(moref, {"host": mounts}, {})


STORES = [
    store("datastore-1", host_1=True, host_2=True, host_3=True, host_4=True),
    store("datastore-2", host_1=True, host_2=None),
    store("datastore-3", host_1=True, host_2=False, host_3=True),
]


def machine(*stores, host="host-1"):
    values = {"datastore": [vim.Datastore(one) for one in stores]}
    return Found("vm-1", values | ({"runtime.host": vim.HostSystem(host)} if host else {}), {})


@pytest.mark.parametrize(
    ("vm", "names"),
    [
        (machine("datastore-1"), ("esx1", "esx2", "esx3")),  # not the other cluster's, which reaches it as well
        (machine("datastore-1", "datastore-2"), ("esx1", "esx2")),
        (machine("datastore-3"), ("esx1", "esx3")),
        (machine("datastore-2", "datastore-3"), ("esx1",)),
        (machine("datastore-2", host="host-3"), ("esx1", "esx2", "esx3")),  # it is there, whatever the mounts say
        (machine("datastore-9"), ("esx1", "esx2", "esx3")),  # hidden from the login
        (machine("datastore-1", host="host-4"), ("esx4",)),
        (machine("datastore-1", host="host-9"), ()),
        (machine("datastore-1", host=None), ()),
    ],
)
def test_hosts_of_the_cluster_that_reach_all_datastores(vm, names):
    assert by_vm([vm], HOSTS, STORES) == {"vm-1": names}
