"""A failover as a command: which one is meant, what is left of it, what is told about it."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from common.clock import Clock
from common.errors import AlreadyExistsError, ConfigError, KeysapartError, PreconditionError
from common.grain import GRAIN_BYTES
from common.ids import DiskKey, PointNumber, parse_point
from common.private_file import write_file
from target_appliance.at_rest import AtRest
from target_appliance.catalog.model import ReplicaRow
from target_appliance.config import ApplianceConfig
from target_appliance.identity.signing import Signer
from target_appliance.native import preflight
from target_appliance.native.blueprint import Blueprint, Crypto, disks_of
from target_appliance.native.failover import Failover, Outcome, Work, no_failpoint
from target_appliance.native.journal import Journal, State
from target_appliance.native.preflight import Finding
from target_appliance.native.section import VCenterSection
from target_appliance.native.shape import shape
from target_appliance.native.vcenter import TargetVCenter
from target_appliance.recovery import vm_file
from target_appliance.recovery.findings import Progress
from target_appliance.recovery.types import PointRecord
from target_appliance.seal.fold import HOLE, WINDOW_GRAINS

RESULT_KIND: Final = "keysapart failover test"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for."""

    point: int | None
    """The newest if None; or, of a failover under way, its own."""
    test: bool = False
    force: bool = False
    """Although another VM of the replica was started."""
    keep: bool = False
    """Leave a test's VM running."""
    whole: bool = False
    """Read back everything that is written."""


def _silent(_bytes: int) -> None:
    pass


class Command:
    """Over an opened appliance and a replica of it; ``close`` logs out."""

    def __init__(
        self,
        config: ApplianceConfig,
        held: AtRest,
        row: ReplicaRow,
        clock: Clock,
        failpoint: Callable[[str], None] = no_failpoint,
    ) -> None:
        self._configured = config.vcenter
        self._folder = config.failover_dir / row.tenant
        self._held, self._row, self._clock, self._failpoint = held, row, clock, failpoint

    def plan(self, wish: Wish) -> tuple[Finding, ...]:
        """What stands in the way, and what is worth knowing; nothing is changed anywhere.

        Raises:
            AlreadyExistsError, PreconditionError: as ``run``, before the vCenter is looked at.
        """
        state = self._begun(self._journal(test=wish.test), wish)
        with self._engine(test=wish.test) as engine:
            _, site = engine.look(self._work(state, _silent, whole=False))
        return preflight.findings(site)

    def run(self, wish: Wish, progress: Progress) -> dict[str, Any]:
        """Begin a failover, or go on with the one under way; the report.

        Raises:
            AlreadyExistsError: a VM of this replica was started already.
            PreconditionError: another point is under way; or as Failover.run.
            KeysapartError: a step failed; the same command goes on.
        """
        journal = self._journal(test=wish.test)
        with journal.held(), self._engine(test=wish.test) as engine:
            state = self._begun(journal, wish)
            began = self._clock.now()
            work = self._work(state, progress, whole=wish.whole)
            ready = engine.ready(work)
            before = journal.read()
            if before is not None and before.failover != state.failover:
                journal.set_aside(before)
            # Not before: what made nothing must not hold the next run to its point.
            journal.write(state)
            try:
                done = engine.run(work, *ready)
            except KeysapartError as error:
                if wish.test and not wish.keep:
                    self._cleaned(engine, error)
                raise
            report = self._report(state, done)
            if wish.test:
                body = {**report, "began": began.isoformat(), "ended": self._clock.now().isoformat()}
                report["result"] = self._sign(state, body)
                if not wish.keep:
                    engine.clean_up(complete=True)
            return {**report, "removed": wish.test and not wish.keep}

    def clean_up(self, *, test: bool) -> bool:
        """Remove what an unfinished failover, or any test, made; whether there was anything at the vCenter."""
        journal = self._journal(test=test)
        if journal.read() is None and not journal.aside():
            return False
        with journal.held(), self._engine(test=test) as engine:
            engine.forget_gone()
            return engine.clean_up(complete=test)

    @property
    def _section(self) -> VCenterSection:
        if self._configured is None:
            raise ConfigError(
                "no vCenter is configured to fail over to",
                subject="vcenter",
                next_step="write a [vcenter] section, see docs/operations.md",
            )
        return self._configured

    def _journal(self, *, test: bool) -> Journal:
        return Journal(self._folder, self._row.replica, test=test)

    @contextmanager
    def _engine(self, *, test: bool) -> Iterator[Failover]:
        vcenter = TargetVCenter(self._section, self._clock)
        try:
            vcenter.session.log_in()
            yield Failover(vcenter, self._section, self._journal(test=test), self._clock, self._failpoint)
        finally:
            vcenter.close()

    def _begun(self, journal: Journal, wish: Wish) -> State:
        state = journal.read()
        complete = [one for one in (*journal.aside(), state) if one is not None and one.running and not one.test]
        if complete and not wish.force:
            raise AlreadyExistsError(
                f"point {complete[-1].point} of this replica runs already as VM {complete[-1].name}",
                subject=f"vm {complete[-1].name}",
                next_step="use that VM; if it was deleted give --clean-up, if a second copy is wanted give --force",
            )
        if state is None or state in complete:
            state = self._fresh(wish)
        elif wish.point not in {None, state.point}:
            raise PreconditionError(
                f"a failover of point {state.point} is under way",
                subject=f"vm {state.name}",
                next_step=f"finish it with --point {state.point}, or remove it with --clean-up",
            )
        return state

    def _fresh(self, wish: Wish) -> State:
        failover = uuid.uuid4().hex
        number = wish.point if wish.point is not None else self._row.newest or 0
        suffix = f"-test-{failover[:8]}" if wish.test else f"-{failover[:8]}" if wish.force else ""
        return State(failover, f"{self._row.vm_name}{suffix}", self._record(number).number, wish.test)

    def _record(self, number: int) -> PointRecord:
        return self._held.vault.point(self._row.tenant, self._row.replica, parse_point(number))

    def _work(self, state: State, progress: Progress, *, whole: bool) -> Work:
        record = self._record(state.point)
        disks = disks_of(record)
        section, vault = self._section, self._held.vault
        told = vm_file.read(vault.store, vault.keyring, self._row.tenant, self._row.replica, record.number)
        plan = Blueprint(
            state.failover,
            state.name,
            shape(section, told, test=state.test),
            disks,
            Crypto(section.key_provider, section.policy or ""),
        )
        needed = sum(self._held_bytes(disk.key, record.number) for disk in disks if disk.key not in state.written)
        return Work(
            plan,
            needed,
            lambda disk: vault.view(self._row.tenant, self._row.replica, disk, record.number),
            progress,
            whole,
        )

    def _held_bytes(self, disk: DiskKey, point: PointNumber) -> int:
        """What the disk's grains take at most; opening them also tries the tenant's key."""
        with self._held.vault.view(self._row.tenant, self._row.replica, disk, point) as view:
            return sum(int((window.layers != HOLE).sum()) for window in view.windows(WINDOW_GRAINS)) * GRAIN_BYTES

    def _report(self, state: State, done: Outcome) -> dict[str, Any]:
        vm = done.vm
        return {
            "tenant": self._row.tenant,
            "replica": self._row.replica,
            "point": state.point,
            "test": state.test,
            "vm": vm.name,
            "moref": vm.moref,
            "running": vm.running,
            "home_key": _shown(vm.key),
            "disks": [
                {"path": disk.path, "capacity_bytes": disk.capacity_bytes, "key": _shown(disk.key)} for disk in vm.disks
            ],
            "written_bytes": done.written_bytes,
        }

    def _sign(self, state: State, body: dict[str, Any]) -> str:
        path = self._folder / f"{self._row.replica}.result-{state.failover}.json"
        # The same test, gone on with after it was cut off behind this line, has the same result once more.
        write_file(path, Signer(self._held.authority, self._clock).sign(RESULT_KIND, body), replace=True)
        return str(path)

    @staticmethod
    def _cleaned(engine: Failover, error: KeysapartError) -> None:
        try:
            engine.clean_up(complete=True)
        except KeysapartError as failed:
            error.add_note(f"what the test made is still there ({failed.message})")


def _shown(key: Any) -> dict[str, str] | None:
    return None if key is None else {"id": key.key, "provider": key.provider}
