"""Replicas built through the vault, beside a model in plain bytes that says what each point must read as."""

import random
from dataclasses import dataclass, field

import lz4.block

from common.grain import GRAIN_BYTES, ZERO_DIGEST, ZERO_GRAIN, GrainKind, digest, grain_count
from common.ids import DiskKey, ReplicaId, TenantId, new_sync_id
from common.sync.events import GrainRecord
from common.vm_configuration import VERSION, BootDevice, Controller, DiskPlace, Nic, VmConfiguration
from target_appliance.kms.memory import MemoryKms
from target_appliance.recovery.types import DiskSpec, SyncHeader, SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.store.memory import MemoryStore
from tests.fakes.clock import ManualClock

TENANT = TenantId("acme")
REPLICA = ReplicaId("4c4c4544-0051-3010-8052-b4c04f564231")
DISK = DiskKey(2000)
OTHER_DISK = DiskKey(2001)


def spec(key=DISK, capacity_bytes=4 << 20, kind=SyncKind.FULL, **changes):
    values = {
        "key": key,
        "uuid": f"6000C29{key}",
        "label": f"Hard disk {key - 1999}",
        "capacity_bytes": capacity_bytes,
        "backing_path": f"[datastore1] web01/web01-{key}.vmdk",
        "change_id": "52 6f 1e 64/3",
        "encrypted": True,
        "controller": "ParaVirtualSCSIController",
        "bus": 0,
        "unit": key - 2000,
        "adapter": "lsilogic",
        "kind": kind,
    }
    return DiskSpec(**{**values, **changes})


def header(disks, base_point, kind=SyncKind.FULL, configuration=None):
    return SyncHeader("web01", kind, tuple(disks), base_point, 1_795_000_000, "crash", configuration)


def vm_configuration(**changes):
    """What a VM is besides its disks."""
    values = {
        "version": VERSION,
        "guest_id": "debian12_64Guest",
        "hardware_version": 19,
        "firmware": "efi",
        "secure_boot": True,
        "cpus": 2,
        "cores_per_socket": 1,
        "memory_mib": 2048,
        "vtpm": False,
        "controllers": (Controller(1000, "ParaVirtualSCSIController", 0, shared=False),),
        "disks": (DiskPlace(2000, 1000, 0), DiskPlace(2001, 1000, 1)),
        "nics": (Nic(4000, "VirtualVmxnet3", "VM Network", "standard", "00:50:56:0a:0b:0c", connected=True),),
        "boot_order": (BootDevice("disk", 2000),),
    }
    return VmConfiguration(**{**values, **changes})


def grain_record(grain, data):
    """The record of a grain as an agent sends it; ``data`` None for zeros."""
    if data is None:
        return GrainRecord(grain, GrainKind.ZERO, ZERO_DIGEST, b"")
    packed = lz4.block.compress(data, mode="fast", store_size=False)
    if len(packed) < GRAIN_BYTES:
        return GrainRecord(grain, GrainKind.LZ4, digest(data), packed)
    return GrainRecord(grain, GrainKind.RAW, digest(data), data)


def grain_bytes(seed, *, random_bytes=False):
    """64 KiB that are told apart by ``seed``: compressible, or not."""
    rng = random.Random(seed)
    return rng.randbytes(GRAIN_BYTES) if random_bytes else rng.randbytes(256) * (GRAIN_BYTES // 256)


@dataclass
class World:
    """A vault with one replica, and the model: per point and disk the capacity and the grains that are not zeros."""

    store: object = field(default_factory=MemoryStore)
    kms: object = field(default_factory=MemoryKms)
    clock: object = field(default_factory=ManualClock)
    vault: Vault | None = None
    model: dict = field(default_factory=dict)
    configuration: VmConfiguration | None = None
    """Of the VM at the next sync; None for an agent that does not tell."""

    def __post_init__(self):
        if self.vault is None:
            self.vault = Vault(self.store, self.kms, self.clock)

    @property
    def newest(self):
        return max(self.model, default=0)

    def begin(self, specs, kind=SyncKind.FULL, sync=None):
        told = header(specs, self.newest, kind, self.configuration)
        return self.vault.syncs.begin(TENANT, REPLICA, sync or new_sync_id(), told)

    def sync(self, changes, kind=SyncKind.FULL, sync=None, batch=16):
        """Commit one point. ``changes`` maps a DiskSpec to its grains, None standing for zeros."""
        changes = {
            disk: {grain: fit(disk, grain, grains[grain]) for grain in grains} for disk, grains in changes.items()
        }
        staged = self.begin(changes, kind, sync)
        try:
            for disk, grains in changes.items():
                send(staged.disk(disk.key), grains, batch)
            done = staged.commit()
        finally:
            staged.discard()
        self.note(done.number, changes)
        return done

    def note(self, number, changes):
        """Keep in the model what a point that was committed must read as."""
        held = {}
        for disk, grains in changes.items():
            below = {} if disk.kind is SyncKind.FULL else dict(self._below(disk.key))
            below.update(grains)
            held[disk.key] = (disk.capacity_bytes, {grain: data for grain, data in below.items() if data})
        self.model[number] = held

    def drop(self, number, reason="test"):
        """Drop a point, which the model forgets with the vault; what stands on it stays."""
        self.vault.drop(TENANT, REPLICA, number, reason)
        del self.model[number]

    def _below(self, key):
        for number in sorted(self.model, reverse=True):
            if key in self.model[number]:
                return self.model[number][key][1]
        return {}

    def image(self, number, key=DISK):
        """All bytes of a disk at a point, by the model; small disks only."""
        capacity, grains = self.model[number][key]
        image = bytearray(grain_count(capacity) * GRAIN_BYTES)
        for grain, data in grains.items():
            image[grain * GRAIN_BYTES : (grain + 1) * GRAIN_BYTES] = data
        return bytes(image[:capacity])

    def read(self, number, key=DISK):
        """All bytes of a disk at a point, by the vault."""
        with self.vault.view(TENANT, REPLICA, key, number) as view:
            grains = view.read(0, view.grains)
            return b"".join(data or bytes(GRAIN_BYTES) for data in grains)[: view.capacity_bytes]

    def differences(self, number, key=DISK):
        """Grains of a disk at a point that read as anything else than the model says; any size of disk."""
        capacity, grains = self.model[number][key]
        found = {}
        with self.vault.view(TENANT, REPLICA, key, number) as view:
            assert view.capacity_bytes == capacity
            for window in view.windows(256):
                for place, data in enumerate(view.load(window)):
                    if data not in (None, ZERO_GRAIN):
                        found[window.first + place] = data
        return sorted(grain for grain in found.keys() | grains.keys() if found.get(grain) != grains.get(grain))

    def dek(self, key=DISK, epoch=1):
        """The plaintext DEK, for the second reader."""
        return self.vault._keyring.open(TENANT, REPLICA, key, epoch).value


def fit(disk, grain, data):
    """What of a grain lies on the disk, zero-padded as an agent does."""
    return data and data[: disk.capacity_bytes - grain * GRAIN_BYTES].ljust(GRAIN_BYTES, b"\0")


def send(writer, grains, batch=16):
    """Append grains as an agent does: rising, some at a time."""
    records = [grain_record(grain, grains[grain]) for grain in sorted(grains)]
    for at in range(0, len(records), batch):
        writer.append(records[at : at + batch])
