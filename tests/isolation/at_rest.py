"""Two tenants at an appliance that does not serve: the commands that an administrator types there, in this process."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.clock import SystemClock
from common.ids import DiskKey, ReplicaId, TenantId, new_sync_id
from target_appliance.kms import registry
from target_appliance.recovery.types import SyncHeader, SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import grain_bytes, send, spec, vm_configuration
from tests.isolation.commands import HOLD, ROWS, Kind, Named
from tests.unit.target_appliance.cli.conftest import Outcome, Site, fresh

OWNERS = ("acme", "rival")
VMS = {"acme": "orders-vm", "rival": "ledger-vm"}
"""Names that no digest contains by chance."""
REPLICAS = {"acme": "aaaaaaaa-1111-4111-8111-111111111111", "rival": "bbbbbbbb-2222-4222-8222-222222222222"}
DISKS = {"acme": 2000, "rival": 2001}
POINTS = {"acme": 1, "rival": 2}
"""How many points the replica has: rival's has a point of a number that acme's lacks."""

ABSENT_ID = "cccccccc-3333-4333-8333-333333333333"
FOREIGN = {
    Kind.REPLICA: (REPLICAS["rival"], VMS["rival"]),
    Kind.TENANT: ("rival",),
    Kind.POINT: ("2",),
    Kind.DISK: ("2001",),
}
ABSENT = {
    Kind.REPLICA: (ABSENT_ID, "nobody"),
    Kind.TENANT: ("nobody",),
    Kind.POINT: ("77",),
    Kind.DISK: ("2077",),
    Kind.AGENT: (ABSENT_ID,),
}
_NAMES = ("", "A" * 1100, "\x00", "web01\n", "\x1b[2J")
_NUMBERS = ("", "-1", "x", "1.5", str(1 << 32))
MALFORMED = {
    Kind.REPLICA: _NAMES,
    Kind.TENANT: (*_NAMES, "../rival", "Rival", "rival ", "a/b"),
    Kind.POINT: (*_NUMBERS, "0"),
    Kind.DISK: _NUMBERS,
    Kind.AGENT: (*_NAMES, "../rival", ABSENT_ID.upper()),
}


@dataclass(frozen=True)
class Answer:
    """What a command tells, without the name that was asked for."""

    code: int
    told: str
    machine: str


@dataclass(frozen=True)
class AtRest:
    """The appliance's folder, and where a test's own files go."""

    site: Site
    aside: Path
    agents: dict[str, str]

    @property
    def own(self) -> Named:
        """acme's objects."""
        image = self.aside / "image.raw"
        image.write_bytes(bytes(1 << 20))
        return Named("acme", REPLICAS["acme"], "1", "2000", self.agents["acme"], self.aside / "out.json", image)

    def run(self, command: str, named: Named, *more: str) -> Outcome:
        """Type it."""
        return self.site.run(*command.split(), *ROWS[command].line(named), *more)

    def ask(self, command: str, kind: Kind, name: str) -> Answer:
        """The answer to a line that names ``name`` beside what is acme's."""
        named = self.own.but(kind, name)
        told, machine = (self.run(command, named, *more) for more in ((), ("--json",)))
        assert told.code == machine.code, (told, machine)
        # Every hundredth line of the audit log is told, whoever writes it.
        said = "".join(line for line in (told.out + told.err).splitlines(keepends=True) if "audit head" not in line)
        return Answer(told.code, said.replace(name, "<name>"), machine.out.replace(name, "<name>"))

    def state(self) -> dict[str, str]:
        """All that the appliance keeps, by file, except the audit log: that tells of refusals, as it should."""
        folder = self.site.folder
        audit = self.site.config.audit_dir
        return {
            **{
                str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(folder.rglob("*"))
                if path.is_file() and audit not in path.parents and not path.name.startswith("catalog.sqlite")
            },
            **{f"catalog {at}": row for at, row in enumerate(self._rows())},
        }

    def of(self, tenant: str) -> list[str]:
        """What is kept of a tenant: its files, its rows, and its key at the KMS."""
        files = [f"{name} {digest}" for name, digest in self.state().items() if tenant in Path(name).parts]
        status = self.site.run("kms", "status", "--json").json  # its exit code may tell of a KMS that nobody uses
        keys = [key for key in status["keys"] if key["tenant"] == tenant]
        return [*files, *(row for row in self._rows() if f"'{tenant}'" in row), str(keys)]

    def _rows(self) -> Iterable[str]:
        with contextlib.closing(sqlite3.connect(self.site.folder / "state" / "catalog.sqlite")) as database:
            return list(database.iterdump())


def made(folder: Path) -> tuple[Site, dict[str, str]]:
    """An appliance with both tenants, and an agent of each."""
    site = fresh(folder)
    site.done("init")
    agents = {name: site.done("tenants", "add", name, "--out", folder / name)["agent"] for name in OWNERS}
    config, clock = site.config, SystemClock()
    with contextlib.closing(PosixStore(config.store_dir)) as store:
        vault = Vault(store, registry.create(config.kms, clock), clock)
        for name in OWNERS:
            for base in range(POINTS[name]):
                _commit(vault, name, base)
    site.done("catalog", "rebuild")
    for name in OWNERS:
        site.done("verify", REPLICAS[name], "--tenant", name)  # the first read makes the lock that readers hold
    held = ("--point", 1, "--name", HOLD, "--reason", "court order")
    site.done("points", "hold", REPLICAS["acme"], "--tenant", "acme", *held)
    site.done("audit", "head", "--out", folder / "head.json")  # the first use of what signs makes its key
    return site, agents


def _commit(vault: Vault, name: str, base: int) -> None:
    disk = spec(DiskKey(DISKS[name]), 1 << 20)
    told = SyncHeader(VMS[name], SyncKind.FULL, (disk,), base, 1_795_000_000, "crash", vm_configuration())
    staged = vault.syncs.begin(TenantId(name), ReplicaId(REPLICAS[name]), new_sync_id(), told)
    send(staged.disk(disk.key), {0: grain_bytes(base)})
    staged.commit()
