"""The steps from a point to a running VM, each of which may be repeated.

Before a step it is asked whether it was done: the VM is known by its marker, a disk by its address, an attachment by
its file, a start by the power state, and complete disks by the journal. So a run that follows a killed one goes on.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final

from common.clock import Clock
from common.errors import PreconditionError, SourceUnavailableError, VCenterError
from common.ids import DiskKey
from common.vsphere.disk import DiskFile
from target_appliance.native import blueprint, preflight
from target_appliance.native.attached import Attached
from target_appliance.native.blueprint import Blueprint, Disk
from target_appliance.native.journal import Journal, State
from target_appliance.native.made import MadeDisk, MadeVm, keys_of, unfit
from target_appliance.native.places import Places
from target_appliance.native.preflight import Surroundings
from target_appliance.native.section import VCenterSection
from target_appliance.native.vcenter import TargetVCenter
from target_appliance.native.writer import write_disk
from target_appliance.recovery.chain import DiskView
from target_appliance.recovery.findings import Progress

STEPS: Final = ("create", "add-disk", "attach", "write", "written", "detach", "start", "stop", "delete")
"""Where a run can be cut: each is named to the failpoint before it is done, and but for ``write`` after it."""


def no_failpoint(_step: str) -> None:
    """Does nothing."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be made, and of what."""

    plan: Blueprint
    needed_bytes: int
    """Room that the disks not yet complete may take."""
    open_disk: Callable[[DiskKey], AbstractContextManager[DiskView]]
    """A disk of the point by its key."""
    progress: Progress
    """Bytes of disks passed."""
    whole: bool
    """Read back all that is written, not a sample."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What stands at the vCenter in the end."""

    vm: MadeVm
    written_bytes: int
    """By this run."""


class Failover:
    """One failover, over a session and its journal, which is held."""

    def __init__(
        self,
        vcenter: TargetVCenter,
        section: VCenterSection,
        journal: Journal,
        clock: Clock,
        failpoint: Callable[[str], None] = no_failpoint,
    ) -> None:
        self._vcenter = vcenter
        self._section = section
        self._journal = journal
        self._attached = Attached(vcenter, section, journal, clock, failpoint)
        self._failpoint = failpoint
        self._native = False

    def look(self, work: Work) -> tuple[Places, Surroundings]:
        """What the vCenter says before anything is changed there."""
        plan, places = work.plan, self._vcenter.places()
        kind, active = self._vcenter.provider(plan.crypto.provider)
        return places, Surroundings(
            plan.crypto.provider,
            kind,
            active,
            places.hosts,
            self._section.datastore,
            places.free_bytes,
            work.needed_bytes,
            {name: name in places.networks for name in work.plan.shape.networks},
            places.appliance_encrypted,
            plan.name if self._vcenter.taken(plan.name, plan.failover) else "",
            self._vcenter.lacking(places, work.plan.shape.networks),
            plan.shape.vtpm,
        )

    def ready(self, work: Work) -> tuple[Places, Surroundings]:
        """As ``look``.

        Raises:
            PreconditionError: the vCenter is not ready, everything in the way is named.
        """
        places, site = self.look(work)
        preflight.require(preflight.findings(site))
        return places, site

    def run(self, work: Work, places: Places, site: Surroundings) -> Outcome:
        """Do what is left to do of the journal's failover, at a vCenter that is ready.

        Raises:
            VCenterError: home or a disk is not encrypted as asked for; nothing (more) was written.
            KeysapartError: a step failed; a later run goes on.
        """
        plan = work.plan
        self._native = site.provider_kind == preflight.NATIVE
        vm = self._disks(self._home(work, places, site), plan)
        self._fit(vm, plan)
        self._attached.release(places.appliance, vm)
        written = 0
        for disk in plan.disks:
            if disk.key not in self._state.written:
                written += self._fill(places.appliance, vm.moref, work, disk)
        vm = self._vcenter.vm(vm.moref)
        self._fit(vm, plan)
        if not vm.running:
            self._do("start", lambda: self._vcenter.power(vm.moref, on=True), lambda: self._running(vm.moref))
        self._journal.write(replace(self._state, running=True))
        return Outcome(self._vcenter.vm(vm.moref), written)

    def clean_up(self, *, complete: bool) -> bool:
        """Remove what the journal's failover made; whether there was anything. ``complete``: even a started VM.

        Raises:
            PreconditionError: it is not what the failover made and nobody used since; nothing was removed.
        """
        state = self._journal.read()
        if state is None:
            return False
        moref = self._ours(state)
        if moref is not None:
            vm = self._vcenter.vm(moref)
            _deletable(vm, state, complete=complete)
            self._attached.release(self._vcenter.places().appliance, vm)
            if vm.running:
                self._do("stop", lambda: self._vcenter.power(moref, on=False), lambda: not self._running(moref))
            self._do("delete", lambda: self._vcenter.destroy(moref), lambda: self._gone(state.failover))
        self._journal.forget()
        return moref is not None

    def forget_gone(self) -> None:
        """Forget failovers that others took the place of, and whose VMs were deleted at the vCenter."""
        for state in self._journal.aside():
            if self._gone(state.failover):
                self._journal.drop(state)

    @property
    def _state(self) -> State:
        state = self._journal.read()
        if state is None:
            raise PreconditionError(
                "there is no failover of this replica", subject="failover", next_step="begin one with failover REPLICA"
            )
        return state

    def _home(self, work: Work, places: Places, site: Surroundings) -> MadeVm:
        plan = work.plan
        moref = self._ours(self._state)
        if moref is None:
            self._journal.write(replace(self._state, moref=""))
            host = preflight.fit_host(site)
            assert host is not None  # noqa: S101  preflight would have stopped
            backings = [self._vcenter.backing(places.networks[name]) for name in work.plan.shape.networks]
            spec = blueprint.home(plan, self._section.datastore, backings)
            self._do(
                "create",
                lambda: self._vcenter.create(places, host.moref, spec),
                lambda: not self._gone(plan.failover),
            )
            moref = self._ours(self._state)
        if moref is None:
            raise _lost(plan.name)
        self._journal.write(replace(self._state, moref=moref))
        vm = self._vcenter.vm(moref)
        if vm.running and len(self._state.written) < len(plan.disks):
            raise PreconditionError(
                f"VM {vm.name} was started before its disks were complete",
                subject=f"vm {vm.name}",
                next_step="stop and delete it at the vCenter, then run failover --clean-up and failover again",
            )
        return vm

    def _disks(self, vm: MadeVm, plan: Blueprint) -> MadeVm:
        for disk in plan.disks:
            if vm.at(disk) is not None:
                continue
            # An encrypted disk on a home in the clear is refused at best.
            self._fit(vm, replace(plan, disks=()))
            controller = vm.controllers.get(disk.controller)
            if controller is None:
                raise _lost(f"{disk.controller.kind} {disk.controller.bus} of {vm.name}")
            if disk.key in self._state.written:
                # Somebody deleted the disk, or the VM with it: what is made in its place is empty.
                self._journal.write(self._state.without_disk(disk.key))
            self._add(vm.moref, disk, blueprint.disk(disk, controller, plan.crypto))
            vm = self._vcenter.vm(vm.moref)
        return vm

    def _add(self, moref: str, disk: Disk, spec: Any) -> None:
        self._do(
            "add-disk",
            lambda: self._vcenter.reconfigure(moref, f"adding disk {disk.key}", spec),
            lambda: self._vcenter.vm(moref).at(disk) is not None,
        )

    def _fit(self, vm: MadeVm, plan: Blueprint) -> None:
        # A native provider answers for no single key.
        missing = frozenset() if self._native else self._vcenter.missing(keys_of(vm))
        if (error := unfit(vm, plan.disks, plan.crypto.provider, missing)) is not None:
            raise error

    def _fill(self, appliance: str, moref: str, work: Work, disk: Disk) -> int:
        with work.open_disk(disk.key) as view:
            vm = self._vcenter.vm(moref)
            self._fit(vm, work.plan)  # as late as it can be asked
            written = self._attached.write(
                appliance,
                vm,
                DiskFile(_of(vm, disk).path, disk.capacity_bytes, disk.label),
                lambda node: write_disk(view, node, work.progress, whole=work.whole, failpoint=self._failpoint),
            )
        self._failpoint("written")
        self._journal.write(self._state.with_disk(disk.key))
        self._failpoint("after written")
        return written

    def _do(self, step: str, change: Callable[[], None], done: Callable[[], Any]) -> None:
        """One change; when its answer was lost it is looked for, and never sent again by this run."""
        self._failpoint(step)
        try:
            change()
        except SourceUnavailableError:
            if not done():
                raise
        self._failpoint(f"after {step}")

    def _ours(self, state: State) -> str | None:
        """Moref of the VM that the failover made, as far as it was seen before: else of the one that bears its mark."""
        moref = self._vcenter.marked(state.failover)
        if moref is not None and state.moref not in {"", moref}:
            raise PreconditionError(
                f"VM {self._vcenter.vm(moref).name} bears the mark of this failover, but is not the VM that it made",
                subject=f"failover {state.failover}",
                next_step=f"take the setting {blueprint.MARKER} from that VM, which is a clone or was registered anew",
            )
        return moref

    def _running(self, moref: str) -> bool:
        return self._vcenter.vm(moref).running

    def _gone(self, failover: str) -> bool:
        return self._vcenter.marked(failover) is None


def _deletable(vm: MadeVm, state: State, *, complete: bool) -> None:
    # Complete disks may have been started by hand, and stopped again.
    if not complete and (vm.running or state.running or (vm.disks and len(state.written) >= len(vm.disks))):
        raise PreconditionError(
            f"VM {vm.name} of this failover is complete",
            subject=f"vm {vm.name}",
            next_step="delete it at the vCenter if it is not wanted any more, and run failover --clean-up then",
        )
    if vm.strange:
        raise PreconditionError(
            f"VM {vm.name} has disks that this failover did not make ({', '.join(vm.strange)})",
            subject=f"vm {vm.name}",
            next_step="detach them at the vCenter, since they would be deleted with the VM, then run it again",
        )


def _of(vm: MadeVm, disk: Disk) -> MadeDisk:
    made = vm.at(disk)
    if made is None:
        raise _lost(f"disk {disk.key} of VM {vm.name}")
    return made


def _lost(what: str) -> VCenterError:
    return VCenterError(
        f"{what} was made, but is not there",
        subject=what,
        next_step="look at the vCenter's tasks for somebody who removed it, then run failover again",
    )
