"""The target's vCenter, as native mode uses it: places by name, VMs by our marker, and the changes, each sent once.

A change whose answer was lost raises; whoever repeats the step looks first, by marker, address or state.
"""

from collections.abc import Sequence
from typing import Any

from pyVmomi import vim

from common.clock import Clock
from common.errors import PreconditionError
from common.ids import DiskKey
from common.vsphere import attach, properties
from common.vsphere.disk import AttachedDisk, DiskFile
from common.vsphere.grants import Grants
from common.vsphere.hot_add import HotAdd
from common.vsphere.machines import Machines
from common.vsphere.properties import moref_of
from common.vsphere.session import Session
from common.vsphere.tasks import wait_for
from target_appliance.native import made, places
from target_appliance.native.blueprint import MARKER
from target_appliance.native.made import KeyId, MadeVm
from target_appliance.native.places import Places
from target_appliance.native.privileges import Place, wanted
from target_appliance.native.section import VCenterSection

_CHECK_AVAILABLE = 1
"""Bit of QueryCryptoKeyStatus: whether the provider has the key."""


class TargetVCenter:
    """Over one session; the caller closes it."""

    def __init__(self, section: VCenterSection, clock: Clock) -> None:
        self._section = section
        self._clock = clock
        self.session = Session(section.settings)
        self._machines = Machines(self.session, clock)
        self._hot_add = HotAdd(self._machines, attach.PERSISTENT)

    def close(self) -> None:
        """Log out; never raises."""
        self.session.close()

    # Reading.

    def places(self) -> Places:
        """What the configuration names; raises NotFoundError as ``places.find`` does."""
        return places.find(self.session, self._section)

    def provider(self, name: str) -> tuple[str | None, bool]:
        """Management type of a key provider, None when there is none of that name, and whether it is active."""
        subject, what = f"key provider {name}", "asking for the key providers"

        def ask() -> tuple[str | None, bool]:
            manager = self.session.content.cryptoManager
            for one in manager.ListKmsClusters(includeKmsServers=False) or []:
                if one.clusterId.id == name:
                    return str(one.managementType or ""), bool(manager.IsKmsClusterActive(one.clusterId))
            return None, False

        return self.session.read(what, subject, ask)

    def missing(self, keys: Sequence[KeyId]) -> frozenset[KeyId]:
        """Those of the keys that their providers do not have."""
        asked = [
            vim.encryption.CryptoKeyId(keyId=one.key, providerId=vim.encryption.KeyProviderId(id=one.provider))
            for one in keys
        ]

        def ask() -> list[Any]:
            answer: list[Any] = self.session.content.cryptoManager.QueryCryptoKeyStatus(asked, _CHECK_AVAILABLE)
            return answer

        told = self.session.read("asking for the keys' states", self.session.settings.subject, ask) if asked else []
        there = {(one.keyId.keyId, one.keyId.providerId.id) for one in told if one.keyAvailable}
        return frozenset(one for one in keys if (one.key, one.provider) not in there)

    def lacking(self, places: Places, networks: Sequence[str]) -> dict[Place, frozenset[str]]:
        """Privileges of the table that the login has not, by place."""
        grants = Grants(self.session)
        on = {
            Place.FOLDER: [places.folder],
            Place.POOL: [places.pool],
            Place.DATASTORE: [places.datastore],
            Place.NETWORK: [places.networks[name] for name in networks if name in places.networks],
            Place.ROOT: [self.session.content.rootFolder],
            Place.APPLIANCE_VM: [self._machines.reference(places.appliance)],
        }
        needed = wanted()
        ids = sorted(frozenset().union(*needed.values()))
        granted = grants.granted([one for group in on.values() for one in group], ids)
        missing = {
            place: frozenset(id_ for id_ in needed[place] for one in group if id_ not in granted[moref_of(one)])
            for place, group in on.items()
        }
        if not any(missing.values()):
            return {}
        known = grants.known()
        return {place: ids_ & known for place, ids_ in missing.items()}

    def marked(self, failover: str) -> str | None:
        """Moref of the VM that bears the failover's marker.

        Raises:
            PreconditionError: several do; one of them is a clone that somebody made.
        """
        paths = ("name", "config.extraConfig")
        found = [
            one
            for one in properties.of_all(self.session, "looking for our VM", vim.VirtualMachine, paths)
            if any((each.key, each.value) == (MARKER, failover) for each in one.values.get("config.extraConfig") or [])
        ]
        if len(found) > 1:
            names = " and ".join(sorted(str(one.values.get("name", one.moref)) for one in found))
            raise PreconditionError(
                f"VMs {names} all bear the mark of this failover",
                subject=f"failover {failover}",
                next_step=f"take the setting {MARKER} from those that are clones",
            )
        return found[0].moref if found else None

    def taken(self, name: str, failover: str) -> bool:
        """Whether another VM bears the name that the failover's VM is to get; once that is there, it may be renamed."""
        found = properties.of_all(self.session, "listing the VMs", vim.VirtualMachine, ("name",))
        return any(one.values.get("name") == name for one in found) and self.marked(failover) is None

    def vm(self, moref: str) -> MadeVm:
        """A VM as it stands."""
        return made.describe(moref, self._machines.values(moref, *made.PATHS))

    def backing(self, network: Any) -> Any:
        """The backing of an adapter on a network."""
        device = vim.vm.device
        if not isinstance(network, vim.dvs.DistributedVirtualPortgroup):
            name = self._one(network, "name")
            return device.VirtualEthernetCard.NetworkBackingInfo(deviceName=name, network=network)
        switch = self._one(network, "config.distributedVirtualSwitch")
        return device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(
            port=vim.dvs.PortConnection(portgroupKey=self._one(network, "key"), switchUuid=self._one(switch, "uuid"))
        )

    def _one(self, reference: Any, path: str) -> Any:
        moref = moref_of(reference)
        return properties.of_object(self.session, f"reading {moref}", moref, reference, (path,)).values.get(path)

    # Changing.

    def create(self, places: Places, host: str, spec: Any) -> None:
        """Make the VM."""
        what, subject = f"creating VM {spec.name}", f"vm {spec.name}"
        on = self.session.reference(vim.HostSystem, host)
        task = self.session.mutate(what, subject, lambda: places.folder.CreateVM_Task(spec, places.pool, on))
        wait_for(self.session, self._clock, task, what, subject)

    def reconfigure(self, moref: str, what: str, spec: Any) -> None:
        """Change a VM."""
        self._machines.change(moref, what, lambda machine: machine.ReconfigVM_Task(spec))

    def power(self, moref: str, *, on: bool) -> None:
        """Start or stop a VM."""
        if on:
            self._machines.change(moref, "starting", lambda machine: machine.PowerOnVM_Task())
        else:
            self._machines.change(moref, "stopping", lambda machine: machine.PowerOffVM_Task())

    def destroy(self, moref: str) -> None:
        """Delete a VM with its disks."""
        self._machines.change(moref, "deleting", lambda machine: machine.Destroy_Task())

    def attach(self, appliance: str, disk: DiskFile) -> AttachedDisk:
        """Hot-add a disk to the appliance's VM, for writing."""
        return self._hot_add.attach(appliance, disk)

    def detach(self, appliance: str, key: DiskKey) -> None:
        """Take a disk off the appliance's VM; its file stays."""
        self._hot_add.detach(appliance, key)

    def attached(self, appliance: str, paths: Sequence[str]) -> list[DiskKey]:
        """Device keys of the disks among ``paths`` that are attached to the appliance's VM."""
        devices = self._machines.values(appliance, "config.hardware.device").get("config.hardware.device") or []
        disks: list[Any] = [one for one in devices if isinstance(one, vim.vm.device.VirtualDisk)]
        return [
            DiskKey(one.key)
            for one in disks
            if one.backing.diskMode == attach.PERSISTENT and one.backing.fileName in paths
        ]
