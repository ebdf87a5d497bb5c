"""A store of two tenants, three replicas, two disks and three points each, and hands that move things in it.

All disks and points have the same grains, incompressible, so that anything fits anywhere but for what it is bound to.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from blake3 import blake3

from common.errors import KeysapartError
from common.grain import GRAIN_BYTES, GrainKind, digest
from common.ids import DiskKey, PointNumber, ReplicaId, SyncId, TenantId, new_sync_id
from common.sync.events import GrainRecord
from target_appliance.kms.memory import MemoryKms
from target_appliance.recovery.digests import CHUNK_BYTES, DigestListWriter
from target_appliance.recovery.types import SyncHeader, SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.seal import selfcheck
from target_appliance.seal.grain import PAYLOAD_MOST_BYTES
from target_appliance.store.memory import MemoryStore
from target_appliance.vmdk.layout import SECTOR_BYTES
from target_appliance.vmdk.reader import ExtentReader
from tests.fakes.clock import ManualClock
from tests.fakes.replica import spec

CAPACITY = 1 << 20
GRAINS = (1, 4, 9)
DISKS = (DiskKey(2000), DiskKey(2001))
POINTS = (PointNumber(1), PointNumber(2), PointNumber(3))
ACME, RIVAL = TenantId("acme"), TenantId("rival")
OWN = ReplicaId("aaaaaaaa-1111-4111-8111-111111111111")
OTHER = ReplicaId("aaaaaaaa-2222-4222-8222-222222222222")
FOREIGN = ReplicaId("bbbbbbbb-1111-4111-8111-111111111111")
HEAD_BYTES = 12
"""Of a grain's record, before the payload."""


class Place(NamedTuple):
    """Where a thing lies."""

    tenant: TenantId
    replica: ReplicaId
    point: PointNumber
    disk: DiskKey
    grain: int

    @property
    def home(self) -> str:
        """The replica's folder."""
        return f"tenants/{self.tenant}/replicas/{self.replica}"

    @property
    def folder(self) -> str:
        """The point's."""
        return f"{self.home}/points/{self.point:06d}"

    def file(self, suffix: str) -> str:
        """The disk's file."""
        return f"{self.folder}/disk-{self.disk}.{suffix}"


@dataclass
class Shelf:
    """The store, and what each point must read as."""

    store: MemoryStore = field(default_factory=MemoryStore)
    kms: MemoryKms = field(default_factory=MemoryKms)
    model: dict[tuple[ReplicaId, int, DiskKey], dict[int, bytes]] = field(default_factory=dict)
    clock: ManualClock = field(default_factory=ManualClock)
    _saved: dict[tuple[str, ...], bytes] = field(default_factory=dict)

    def vault(self) -> Vault:
        """A new one, which remembers nothing."""
        return Vault(self.store, self.kms, self.clock)

    def fill(self, rng: random.Random) -> None:
        """Commit all points."""
        for tenant, replica in ((ACME, OWN), (ACME, OTHER), (RIVAL, FOREIGN)):
            for point in POINTS:
                kind = SyncKind.FULL if point == 1 else SyncKind.DELTA
                staged = self.begin(tenant, replica, PointNumber(point - 1), kind)
                for disk in DISKS:
                    grains = {grain: rng.randbytes(GRAIN_BYTES) for grain in GRAINS}
                    self.model[replica, point, disk] = grains
                    writer = staged.disk(disk)
                    writer.append([GrainRecord(at, GrainKind.RAW, digest(data), data) for at, data in grains.items()])
                    writer.finish()
                staged.commit()
                staged.discard()
        self._saved = {path: bytes(content) for path, content in self.store._files.items()}

    def begin(
        self, tenant: TenantId, replica: ReplicaId, base: PointNumber, kind: SyncKind, sync: SyncId | None = None
    ):
        specs = tuple(spec(disk, CAPACITY, kind) for disk in DISKS)
        header = SyncHeader("web01", kind, specs, base, 1_795_000_000, "crash")
        return self.vault().syncs.begin(tenant, replica, sync or new_sync_id(), header)

    def put_back(self) -> None:
        """Everything as it was committed."""
        self.store._files = {path: bytearray(content) for path, content in self._saved.items()}

    def get(self, path: str) -> bytes:
        return bytes(self.store.content(path))

    def put(self, path: str, content: bytes) -> None:
        self.store.content(path)[:] = content

    def swap(self, one: str, other: str) -> None:
        """Two files change places."""
        mine, yours = self.get(one), self.get(other)
        self.put(one, yours)
        self.put(other, mine)

    def payload(self, place: Place) -> slice:
        """Where a grain's payload lies in its VMDK."""
        content = self.get(place.file("vmdk"))
        with self.store.open(place.file("vmdk")) as file:
            sectors = dict(ExtentReader(file, CAPACITY, PAYLOAD_MOST_BYTES).entries())
        begin = sectors[place.grain] * SECTOR_BYTES
        (size,) = struct.unpack_from("<I", content, begin + 8)
        return slice(begin + HEAD_BYTES, begin + HEAD_BYTES + size)

    def fit(self, place: Place) -> None:
        """Make the digests of the disk's stored bytes those of the files as they are now."""
        path = place.file("digests")
        del self.store._files[tuple(path.split("/"))]
        with self.store.create(path) as file:
            writer = DigestListWriter(file, place.replica, place.disk, place.point)
            for suffix in ("vmdk", "manifest"):
                name, content = f"disk-{place.disk}.{suffix}", self.get(place.file(suffix))
                chunks = (content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES))
                writer.add(name, len(content), b"".join(blake3(chunk).digest(length=16) for chunk in chunks))
            writer.finish()

    def members(self, path: str) -> dict:
        return selfcheck.decode(self.get(path))

    def write_members(self, path: str, members: dict) -> None:
        """With a check sum that fits."""
        self.put(path, selfcheck.encode(members))

    def wrong_reads(self, tenant: TenantId, replica: ReplicaId) -> Iterator[tuple[int, DiskKey, str]]:
        """Each point's disks: what a read ends with when it is not the very bytes that were committed."""
        for point in POINTS:
            for disk in DISKS:
                try:
                    with self.vault().view(tenant, replica, disk, point) as view:
                        found = view.read(0, view.grains)
                except KeysapartError as error:
                    yield point, disk, type(error).__name__
                    continue
                if {at: data for at, data in enumerate(found) if data} != self.model[replica, point, disk]:
                    yield point, disk, "WRONG BYTES"
