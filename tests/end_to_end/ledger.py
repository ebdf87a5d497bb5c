"""What one VM's points must hold: the guest's content is noted before each sync, and compared with the store after.

Comparing goes through the vault in this process, because it is asked dozens of times; ``check_by_command`` asks the
same of ``target-appliance``, as an operator would.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.clock import SystemClock
from common.config import load
from common.grain import GRAIN_BYTES
from common.ids import DiskKey, PointNumber, TenantId, parse_replica
from target_appliance.config import ApplianceConfig
from target_appliance.kms import registry
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore
from tests.end_to_end.pair import TENANT, Pair
from tests.lab.inventory import instance_uuid

Content = Mapping[int, str]
"""Digest of each disk, by device key."""

_WINDOW_GRAINS = 64


class Ledger:
    """One VM of a pair, from its first sync on. A context manager: it keeps a connection to the key server."""

    def __init__(self, pair: Pair, vm: str, seed: int = 0) -> None:
        self.pair = pair
        self.vm = vm
        self.replica = parse_replica(instance_uuid(vm))
        self.points: dict[int, Content] = {}
        self._rng = random.Random(seed)
        self._sizes = {disk.key: disk.size for disk in pair.lab.machine(vm).disks}
        self._config = load(pair.config, ApplianceConfig)
        self._kms = registry.create(self._config.kms, SystemClock())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kms.close()

    def resized(self) -> None:
        """Disks have grown: from now on the guest writes to, and points must hold, all of them."""
        self._sizes = {key: self.pair.lab.guest(self.vm, key).size for key in self._sizes}

    def write(self, most_bytes: int = 1 << 20) -> None:
        """The guest writes: some of every disk, aligned and not, between half of ``most_bytes`` and all of it."""
        for key, size in self._sizes.items():
            guest = self.pair.lab.guest(self.vm, key)
            for _ in range(6):
                most = most_bytes // (6 * len(self._sizes))
                length = self._rng.randrange(most // 2, most)
                guest.write(self._rng.randrange(size - length), self._rng.randbytes(length))

    def content(self) -> Content:
        """What the guest's disks hold now."""
        found = {}
        for key in self._sizes:
            image = self.pair.folder / f"image-{self.vm}-{key}.raw"
            self.pair.lab.guest(self.vm, key).image(image)
            found[key] = digest_of(image)
            image.unlink()
        return found

    def sync(self, *words: str) -> dict[str, Any]:
        """A sync that must succeed, and whose point must hold what the guest holds now."""
        content = self.content()
        report = self.pair.sync(self.vm, *words)
        assert report["replica"] == self.replica
        self.settle(content, report["point"])
        return report

    def settle(self, content: Content, point: int) -> None:
        """``point`` was committed, and it is the next; it must hold ``content``."""
        assert point == len(self.points) + 1, (point, sorted(self.points))
        self.points[point] = content
        self.check_content(point)

    def settle_unknown(self, content: Content) -> bool:
        """A sync of ``content`` ended nobody knows how: there is one more point, which holds it, or none."""
        held = self.held()
        if held == sorted(self.points):
            return False
        self.settle(content, held[-1])
        return True

    def held(self) -> list[int]:
        """Numbers of the points in the store."""
        with self._vault() as vault:
            return list(vault.point_numbers(TenantId(TENANT), self.replica))

    def staged(self) -> list[str]:
        """What lies in the replica's staging folder."""
        folder = self.pair.folder / "store" / "tenants" / TENANT / "replicas" / self.replica / "staging"
        return sorted(path.name for path in folder.glob("*"))

    def check_nothing_else(self) -> None:
        """Exactly the known points are there; nothing else shows, nothing is left over."""
        assert self.held() == sorted(self.points)
        assert self.staged() == []

    def check(self) -> None:
        """The same, and every point verifies with the key."""
        self.check_nothing_else()
        with self._vault() as vault:
            report = vault.verify(TenantId(TENANT), self.replica, with_key=True)
        assert [str(finding) for finding in report.findings] == []
        assert list(report.points) == sorted(self.points)

    def check_source(self) -> None:
        """Nothing of ours is left at the source."""
        assert self.pair.lab.control("snapshots", self.vm) == []
        assert self.pair.lab.control("orphans") == []

    def check_content(self, point: int) -> None:
        """``point`` holds what the guest held."""
        with self._vault() as vault:
            held = {}
            for key, size in self._sizes.items():
                with vault.view(TenantId(TENANT), self.replica, DiskKey(key), PointNumber(point)) as view:
                    assert view.capacity_bytes == size
                    digest, left = hashlib.blake2b(), size
                    for first in range(0, view.grains, _WINDOW_GRAINS):
                        for grain in view.read(first, min(_WINDOW_GRAINS, view.grains - first)):
                            plain = grain or bytes(GRAIN_BYTES)
                            digest.update(plain[: min(left, GRAIN_BYTES)])
                            left -= GRAIN_BYTES
                    held[key] = digest.hexdigest()
        assert held == self.points[point], f"point {point} is not what the guest held"

    def check_by_command(self) -> None:
        """By ``target-appliance`` alone: the list, verify with and without the key, exports of old and new points."""
        listed = self.pair.done("points", self.replica)
        assert [point["point"] for point in listed["points"]] == sorted(self.points)
        for words in ((), ("--without-key",)):
            verified = self.pair.done("verify", self.replica, *words)
            assert (verified["findings"], verified["points"]) == ([], sorted(self.points))
        out = self.pair.folder / "export.raw"
        for point in {1, len(self.points) // 2, len(self.points)}:
            for key, digest in self.points[point].items():
                words = ("--point", point, "--disk", key, "--format", "raw", "--out", out)
                self.pair.done("export", self.replica, *words)
                assert digest_of(out) == digest, f"the export of point {point}, disk {key}"
                out.unlink()

    @contextmanager
    def _vault(self) -> Iterator[Vault]:
        store = PosixStore(self._config.store_dir)
        try:
            yield Vault(store, self._kms, SystemClock())
        finally:
            store.close()


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
