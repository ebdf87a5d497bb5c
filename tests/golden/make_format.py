"""Makes tests/golden/format: a small store with fixed keys and nonces, and the values on the way to it.

``python -m tests.golden.make_format`` rewrites the folder. A change of any byte is a change of the format.
"""

import hashlib
import json
import random
import shutil
import struct
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.grain import GRAIN_BYTES
from common.ids import SyncId
from target_appliance.kms.port import KekState, WrappedKey
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.seal.keys import DataKey, wrapping_context
from target_appliance.store.posix import PosixStore
from tests.fakes.clock import ManualClock
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, spec, vm_configuration

FOLDER = Path(__file__).parent / "format"
KEK = bytes(range(32))
KEK_ID = "golden-kek"
SMALL = 20 * GRAIN_BYTES + 3 * 512
LARGE = (64 << 30) + 2 * GRAIN_BYTES


class GoldenKms:
    """One Active KEK whose value everybody knows, and nonces that are counted."""

    name = "golden"

    def __init__(self):
        self._wrapped = 0

    def create_kek(self, _tenant):
        return KEK_ID

    def state(self, kek_id):
        return KekState.ACTIVE if kek_id == KEK_ID else KekState.ABSENT

    def wrap(self, kek_id, dek, associated_data):
        self._wrapped += 1
        nonce = self._wrapped.to_bytes(12, "big")
        sealed = AESGCM(KEK).encrypt(nonce, dek, associated_data)
        return WrappedKey(kek_id, "AES-256-GCM", nonce, sealed[:-16], sealed[-16:])

    def unwrap(self, wrapped, associated_data):
        return AESGCM(KEK).decrypt(wrapped.nonce, wrapped.ciphertext + wrapped.tag, associated_data)


def make(folder):
    """Build the store in ``folder``, which is empty; returns the world that made it."""
    store = PosixStore(folder)
    kms, clock = GoldenKms(), ManualClock()
    vault = Vault(store, kms, clock, entropy=random.Random(1).randbytes)
    world = World(store, kms, clock, vault)
    last = (64 << 30) // GRAIN_BYTES
    world.sync(
        {
            spec(DISK, SMALL): {0: grain_bytes(1), 7: grain_bytes(2, random_bytes=True), 20: grain_bytes(3)},
            spec(OTHER_DISK, LARGE): {5: grain_bytes(4), last: grain_bytes(5)},
        },
        sync=SyncId("00000000-0000-4000-8000-000000000001"),
    )
    clock.advance(3600)
    world.configuration = vm_configuration()
    world.sync(
        {
            spec(DISK, SMALL, SyncKind.DELTA): {0: None, 1: grain_bytes(6), 20: grain_bytes(7)},
            spec(OTHER_DISK, LARGE, SyncKind.DELTA): {},
        },
        SyncKind.DELTA,
        sync=SyncId("00000000-0000-4000-8000-000000000002"),
    )
    clock.advance(3600)
    world.configuration = vm_configuration(cpus=4, vtpm=True)
    world.sync(
        {
            spec(DISK, SMALL + GRAIN_BYTES, SyncKind.COMPARE): {1: grain_bytes(8), 21: grain_bytes(9)},
            spec(OTHER_DISK, LARGE, SyncKind.DELTA): {last - 1: grain_bytes(10), last: None},
        },
        SyncKind.COMPARE,
        sync=SyncId("00000000-0000-4000-8000-000000000003"),
    )
    store.close()
    return world


def vectors(world):
    """Values on the way, for somebody whose reader does not agree."""
    disks = {}
    for disk in (DISK, OTHER_DISK):
        key = DataKey(REPLICA, disk, 1, world.dek(disk))
        disks[str(disk)] = {
            "dek": key.value.hex(),
            "wrapping_associated_data": wrapping_context(TENANT, REPLICA, disk, 1).hex(),
            "points": {
                str(point): {
                    "binding": key.binding(point).hex(),
                    "grain_key": key.grain_key(point).hex(),
                    "manifest_key": key.manifest_key(point).hex(),
                    "root_key": key.root_key(point).hex(),
                    "record_key": key.record_key(point).hex(),
                    "vm_key": key.vm_key(point).hex(),
                    "capacity_bytes": world.model[point][disk][0],
                    "grains": {
                        str(grain): hashlib.sha256(data).hexdigest()
                        for grain, data in sorted(world.model[point][disk][1].items())
                    },
                }
                for point in world.model
            },
        }
    grain = grain_bytes(1)
    return {
        "about": "grains: SHA-256 of each grain that is not zeros, the last one padded. See docs/format.md",
        "kek": KEK.hex(),
        "grain_digest": {"plaintext": f"{grain[:256].hex()} 256 times", "digest": blake3(grain).hexdigest(length=16)},
        "grain_associated_data_disk_2000_point_1_grain_7": (
            DataKey(REPLICA, DISK, 1, b"").binding(1) + struct.pack("<I", 7)
        ).hex(),
        "disks": disks,
    }


def main():
    """Rewrite the folder."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "store").mkdir(parents=True)
    world = make(FOLDER / "store")
    for path in FOLDER.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    world.vault = Vault(PosixStore(FOLDER / "store"), world.kms, world.clock)
    text = json.dumps(vectors(world), indent=1, sort_keys=True)
    (FOLDER / "vectors.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
