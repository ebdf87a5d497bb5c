"""The target site's vCenter: keys as its providers make them, disks that can be written, and each way to go wrong."""

from collections.abc import Iterator

import pytest
from pyVmomi import vim as vmodl

from tests.lab.target_site import APPLIANCE_VM, NATIVE_PROVIDER, PORT_GROUPS, STANDARD_PROVIDER, TargetSite
from tests.lab.vim import Vim, connected, disks, wait

DEVICE = vmodl.vm.device
MIB = 1 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TargetSite]:
    with TargetSite(tmp_path_factory.mktemp("target")) as running:
        yield running


@pytest.fixture
def vim(site: TargetSite) -> Iterator[Vim]:
    with connected(site) as session:
        yield session
        site.heal()
        appliance = session.vm(APPLIANCE_VM)
        for one in site.attached():
            session.detach(appliance, next(d for d in appliance.config.hardware.device if d.key == one["key"]))
        view = session.content.viewManager.CreateContainerView(session.content.rootFolder, [vmodl.VirtualMachine], True)
        for vm in view.view:
            if vm.name == "restored":
                if vm.runtime.powerState == "poweredOn":
                    wait(vm.PowerOffVM_Task())
                wait(vm.Destroy_Task())


def encrypt(provider: str = STANDARD_PROVIDER, key: str = ""):
    return vmodl.encryption.CryptoSpecEncrypt(
        cryptoKeyId=vmodl.encryption.CryptoKeyId(keyId=key, providerId=vmodl.encryption.KeyProviderId(id=provider))
    )


def create(session: Vim, provider: str = STANDARD_PROVIDER):
    """A VM with an encrypted home and one encrypted disk of a MiB."""
    center = session.content.rootFolder.childEntity[0]
    cluster = center.hostFolder.childEntity[0]
    controller = DEVICE.ParaVirtualSCSIController(key=1000, busNumber=0, sharedBus="noSharing")
    disk = DEVICE.VirtualDisk(
        key=-1,
        controllerKey=1000,
        unitNumber=0,
        capacityInBytes=MIB,
        capacityInKB=MIB // 1024,
        backing=DEVICE.VirtualDisk.FlatVer2BackingInfo(fileName="", diskMode="persistent", thinProvisioned=True),
    )
    spec = vmodl.vm.ConfigSpec(
        name="restored",
        files=vmodl.vm.FileInfo(vmPathName="[LocalDS_0]"),
        crypto=encrypt(provider),
        deviceChange=[DEVICE.VirtualDeviceSpec(operation="add", device=controller)],
    )
    vm = wait(center.vmFolder.CreateVM_Task(spec, cluster.resourcePool, cluster.host[0]))
    change = DEVICE.VirtualDeviceSpec(
        operation="add",
        fileOperation="create",
        device=disk,
        backing=DEVICE.VirtualDeviceSpec.BackingSpec(crypto=encrypt(provider)),
    )
    wait(vm.ReconfigVM_Task(vmodl.vm.ConfigSpec(deviceChange=[change])))
    return vm


def keys(vm) -> list[vmodl.encryption.CryptoKeyId]:
    return [vm.config.keyId, *(disk.backing.keyId for disk in disks(vm))]


def test_the_vcenter_makes_keys_at_its_own_key_server(site: TargetSite, vim: Vim):
    vm = create(vim)

    home, disk = keys(vm)
    assert home.keyId != disk.keyId
    assert {key.providerId.id for key in (home, disk)} == {STANDARD_PROVIDER}
    assert {site.kms.state(key.keyId) for key in (home, disk)} == {"active"}


def test_the_native_provider_makes_keys_but_none_that_is_asked_for(site: TargetSite, vim: Vim):
    before = len(site.kms.list_keys())
    vm = create(vim, NATIVE_PROVIDER)

    assert {key.providerId.id for key in keys(vm)} == {NATIVE_PROVIDER}
    assert len(site.kms.list_keys()) == before
    wait(vm.PowerOnVM_Task())
    with pytest.raises(Exception, match="native key provider"):
        vim.content.cryptoManager.GenerateKey(vmodl.encryption.KeyProviderId(id=NATIVE_PROVIDER))


def test_a_key_can_be_made_beforehand(site: TargetSite, vim: Vim):
    manager, provider = vim.content.cryptoManager, vmodl.encryption.KeyProviderId(id=STANDARD_PROVIDER)

    made = manager.GenerateKey(provider)

    assert made.success
    assert site.kms.state(made.keyId.keyId) == "active"
    assert manager.QueryCryptoKeyStatus([made.keyId], 1)[0].keyAvailable
    site.kms.destroy(made.keyId.keyId)
    assert not manager.QueryCryptoKeyStatus([made.keyId], 1)[0].keyAvailable


def test_kinds_and_states_of_providers(site: TargetSite, vim: Vim):
    manager = vim.content.cryptoManager
    kinds = {one.clusterId.id: one.managementType for one in manager.ListKmsClusters(True, 0)}
    assert kinds == {STANDARD_PROVIDER: "vCenter", NATIVE_PROVIDER: "nativeProvider"}
    provider = vmodl.encryption.KeyProviderId(id=STANDARD_PROVIDER)
    assert manager.IsKmsClusterActive(provider)

    site.order("provider", name=STANDARD_PROVIDER, on=False)
    site.order("provider", name=NATIVE_PROVIDER, kind="unknown")

    assert not manager.IsKmsClusterActive(provider)
    assert not manager.GenerateKey(provider).success
    assert {one.managementType for one in manager.ListKmsClusters(True, 0)} == {"vCenter", "unknown"}
    with pytest.raises(vmodl.fault.InvalidVmConfig):
        create(vim)


@pytest.mark.parametrize("what", ["vm", "disk"])
@pytest.mark.parametrize("how", ["unset", "foreign-provider", "foreign-key"])
def test_encryption_goes_wrong_without_a_word(site: TargetSite, vim: Vim, what: str, how: str):
    site.order("misdeed", what=what, how=how)
    home, disk = keys(create(vim))

    wrong, right = (home, disk) if what == "vm" else (disk, home)
    assert right.providerId.id == STANDARD_PROVIDER
    if how == "unset":
        assert wrong is None
    elif how == "foreign-provider":
        assert wrong.providerId.id == "somebody-elses-kms"
    else:
        assert site.kms.state(wrong.keyId) == "absent"


def test_a_disk_of_a_vm_that_is_off_is_written_through_the_device_folder(site: TargetSite, vim: Vim):
    vm, appliance = create(vim), vim.vm(APPLIANCE_VM)
    device = vim.attach(appliance, disks(vm)[0], bus=1, unit=2, mode="independent_persistent")
    with (site.devices / "scsi-1:2").open("r+b") as node:
        node.seek(4096)
        node.write(b"restored")
    assert [(one["vm"], one["link"]) for one in site.attached()] == [("restored", "scsi-1:2")]
    for task in (vm.PowerOnVM_Task, vm.Destroy_Task):
        with pytest.raises(vmodl.fault.FileLocked):
            wait(task())

    vim.detach(appliance, device)

    content = site.file("restored", disks(vm)[0].key).read_bytes()
    assert (len(content), content[4096:4104]) == (MIB, b"restored")
    wait(vm.PowerOnVM_Task())
    with pytest.raises(vmodl.fault.FileLocked):
        vim.attach(appliance, disks(vm)[0], bus=1, unit=2, mode="independent_persistent")


@pytest.mark.parametrize("state", ["incapable", "prepared"])
def test_a_host_that_is_not_fit_for_encryption(site: TargetSite, vim: Vim, state: str):
    site.order("host-crypto", name=state)
    host = vim.content.rootFolder.childEntity[0].hostFolder.childEntity[0].host[0]
    assert host.runtime.cryptoState == state
    if state == "incapable":
        with pytest.raises(vmodl.fault.InvalidVmConfig):
            create(vim)
    else:
        create(vim)
        assert host.runtime.cryptoState == "safe"


def test_a_vm_whose_disk_lost_its_key_does_not_start(site: TargetSite, vim: Vim):
    vm = create(vim)
    site.kms.destroy(keys(vm)[1].keyId)

    with pytest.raises(vmodl.fault.EncryptionKeyRequired):
        wait(vm.PowerOnVM_Task())


def test_space_networks_and_tasks_that_fail(site: TargetSite, vim: Vim):
    center = vim.content.rootFolder.childEntity[0]
    site.order("space", bytes=MIB)
    assert center.datastore[0].summary.freeSpace == MIB
    assert set(PORT_GROUPS) < {network.name for network in center.network}
    site.order("fault", method="CreateVM_Task", fault="NoDiskSpace", count=1)
    with pytest.raises(vmodl.fault.NoDiskSpace):
        create(vim)


def test_privileges_that_creating_needs(site: TargetSite, vim: Vim):
    for privilege in ("VirtualMachine.Inventory.Create", "Cryptographer.EncryptNew", "Resource.AssignVMToPool"):
        site.order("deny", privilege=privilege)
        with pytest.raises(vmodl.fault.NoPermission) as refused:
            create(vim)
        assert refused.value.privilegeId == privilege
        site.order("allow")


def test_a_deleted_vm_takes_its_disks_along(site: TargetSite, vim: Vim):
    vm = create(vim)
    file = site.file("restored", disks(vm)[0].key)
    assert file.exists()

    wait(vm.Destroy_Task())

    assert not file.exists()
