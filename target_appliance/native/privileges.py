"""Which privileges native mode needs at the target's vCenter, for what, and on which object: the one table. Pure."""

import enum
from typing import Final


class Place(enum.StrEnum):
    """The kind of object that a privilege is asked on."""

    FOLDER = "folder"
    POOL = "resource pool"
    DATASTORE = "datastore"
    NETWORK = "network"
    ROOT = "root folder"
    APPLIANCE_VM = "appliance's VM"


NEEDS: Final[tuple[tuple[str, Place, tuple[str, ...]], ...]] = (
    (
        "create and remove the VM",
        Place.FOLDER,
        (
            "VirtualMachine.Inventory.Create",
            "VirtualMachine.Inventory.Delete",
            "VirtualMachine.Config.AddNewDisk",
            "VirtualMachine.Config.AddRemoveDevice",
            "VirtualMachine.Config.AdvancedConfig",
            "VirtualMachine.Config.Settings",
        ),
    ),
    ("create the VM", Place.POOL, ("Resource.AssignVMToPool",)),
    ("create its disks", Place.DATASTORE, ("Datastore.AllocateSpace", "Datastore.Browse", "Datastore.FileManagement")),
    ("connect it", Place.NETWORK, ("Network.Assign",)),
    ("encrypt it", Place.FOLDER, ("Cryptographer.EncryptNew", "Cryptographer.Access")),
    ("look at its keys", Place.ROOT, ("Cryptographer.ManageKeys", "Cryptographer.ReadKeyServersInfo")),
    (
        "write its disks",
        Place.APPLIANCE_VM,
        (
            "VirtualMachine.Config.AddExistingDisk",
            "VirtualMachine.Config.RemoveDisk",
            "VirtualMachine.Config.Resource",
            "Cryptographer.AddDisk",
        ),
    ),
    ("start and stop it", Place.FOLDER, ("VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.PowerOff")),
)
"""Purpose, place, privileges."""


def wanted() -> dict[Place, frozenset[str]]:
    """The privileges by the object they are asked on."""
    found: dict[Place, frozenset[str]] = {}
    for _, place, ids in NEEDS:
        found[place] = found.get(place, frozenset()) | frozenset(ids)
    return found
