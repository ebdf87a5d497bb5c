"""``vm.sealed``: the VM's configuration as a file of a point, which the record names. Staged when the sync begins."""

from collections.abc import Mapping

from blake3 import blake3

from common.errors import NotFoundError
from common.ids import DiskKey, PointNumber, ReplicaId, SyncId, TenantId
from common.vm_configuration import VmConfiguration
from target_appliance.recovery import names, points, small_file
from target_appliance.recovery.keyring import Keyring
from target_appliance.recovery.types import PointRecord, SealedVm, SyncHeader
from target_appliance.seal import configuration
from target_appliance.seal.keys import DataKey, Entropy
from target_appliance.store.port import Store


def stage(
    store: Store,
    header: SyncHeader,
    keys: Mapping[DiskKey, DataKey],
    whose: tuple[TenantId, ReplicaId, SyncId],
    *,
    point: PointNumber,
    entropy: Entropy,
) -> SealedVm | None:
    """Write the file into the sync's folder, durable; None when there is nothing to write. Raises StoreError."""
    if header.configuration is None:
        return None
    disk = min(keys)
    content = configuration.seal(header.configuration, keys[disk], point, whose[2], entropy)
    path = f"{names.sync_folder(*whose)}/{names.VM_FILE}"
    with store.create(path) as file:
        file.append([content])
        file.sync()
    store.protect(path)
    return SealedVm(disk, len(content), blake3(content).digest())


def staged(store: Store, record: PointRecord) -> bool:
    """Whether what an earlier process staged is there and whole."""
    folder = names.sync_folder(record.tenant, record.replica, record.sync)
    try:
        return record.vm is None or content(store, folder, record.vm) is not None
    except NotFoundError:
        return False


def content(store: Store, folder: str, vm: SealedVm) -> bytes | None:
    """The file's bytes; None when they are not those that the record names. Raises NotFoundError, StoreError."""
    with store.open(f"{folder}/{names.VM_FILE}") as file:
        data = file.read_at(0, vm.size) if file.size == vm.size else b""
    return data if blake3(data).digest() == vm.digest else None


def read(
    store: Store, keyring: Keyring, tenant: TenantId, replica: ReplicaId, point: PointNumber
) -> VmConfiguration | None:
    """The VM's configuration at a point; None where the point has none.

    Raises:
        NotFoundError: there is no such point.
        KeyNotUsableError, KmsUnavailableError: it cannot be opened now.
        DamagedError: it is not what was committed.
    """
    record, macs = points.read_point(store, tenant, replica, point)
    if record.vm is None:
        return None
    folder = names.point_folder(tenant, replica, point)
    path = f"{folder}/{names.VM_FILE}"
    disk = record.disk(record.vm.disk)
    if disk is None:
        raise small_file.damaged(path, "the record has no disk whose key would open it")
    key = keyring.open(tenant, replica, disk.spec.key, disk.key_epoch)
    points.check_mac(record, macs, key)
    try:
        found = content(store, folder, record.vm)
    except NotFoundError:
        raise small_file.damaged(path, "it is missing") from None
    if found is None:
        raise small_file.damaged(path, "stored bytes are not those committed")
    try:
        return configuration.unseal(found, key, point, record.sync)
    except configuration.ConfigurationError as error:
        raise small_file.damaged(path, str(error)) from None
