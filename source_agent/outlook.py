"""What a sync would do if it started now, asked for before anything is touched."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from source_agent import in_flight, measured
from source_agent.cycle import past_of
from source_agent.expect import Expectation, expect
from source_agent.in_flight import InFlight
from source_agent.measured import Measured
from source_agent.needs import Agent
from source_agent.plan import Kind, Plan, forecast
from source_agent.preflight import Finding, Severity
from source_agent.replicate import findings
from source_agent.resume import outlived
from source_agent.trust import HeldPoint, run_of
from source_agent.vsphere.port import VmInfo
from source_agent.vsphere.snapshots import leftovers
from source_agent.wire_types import held_point


@dataclass(frozen=True, slots=True)
class Outlook:
    """A plan with its price, and what stands in its way."""

    vm: VmInfo
    plan: Plan
    expectation: Expectation
    age_seconds: float | None
    """Of the newest point; None when there is none."""
    rpo_seconds: float | None
    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Preflight would let the sync begin."""
        return not any(found.severity is Severity.REFUSE for found in self.findings)

    @property
    def rpo_kept(self) -> bool | None:
        """Whether the newest point would be younger than the RPO until this sync ends; None when that is unknown."""
        seconds = self.expectation.seconds
        if self.rpo_seconds is None or self.age_seconds is None or seconds is None:
            return None
        return self.age_seconds + seconds <= self.rpo_seconds

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; the field names are the documented ones."""
        seconds = self.expectation.seconds
        return {
            "vm": self.vm.name,
            "replica": self.vm.instance_uuid,
            "ready": self.ready,
            "kind": self.plan.kind.value,
            "base": self.plan.base,
            "disks": [
                {
                    "key": disk.key,
                    "kind": disk.kind.value,
                    "rule": disk.rule,
                    "cause": disk.cause,
                    "capacity_bytes": disk.capacity_bytes,
                }
                for disk in self.plan.disks
            ],
            "bytes_to_read": self.expectation.bytes_to_read,
            "basis": self.expectation.basis,
            "bytes_to_send": self.expectation.bytes_to_send,
            "seconds": None if seconds is None else round(seconds, 3),
            "age_seconds": None if self.age_seconds is None else round(self.age_seconds, 3),
            "rpo_seconds": self.rpo_seconds,
            "rpo_kept": self.rpo_kept,
            "findings": [asdict(found) for found in self.findings],
        }

    def lines(self) -> list[str]:
        """For people."""
        base = f" onto point {self.plan.base}" if self.plan.base else ""
        told = [f"{one.severity.value}: {one.sentence}: {one.remedy}" for one in self.findings]
        told.append(f"{self.vm.name}: {self.plan.kind.value} sync{base}")
        told += [f"disk {disk.key} {disk.kind.value}: {disk.cause}" for disk in self.plan.disks]
        told.append(self.expectation.sentence())
        if self.rpo_kept is not None:
            told.append(f"RPO of {self.rpo_seconds:.0f} s: {'kept' if self.rpo_kept else 'missed'}")
        if not self.ready:
            told.append(f"{self.vm.name} would be refused")
        return told


def look_ahead(agent: Agent, name: str, *, requested: Kind | None = None, rpo_seconds: float | None = None) -> Outlook:
    """What a sync of the VM called ``name`` would do now; nothing is touched at either site.

    Raises:
        KeysapartError: the VM, the vCenter or the target does not answer as it should.
    """
    vm = agent.vsphere.vm(name)
    held = held_point(vm, agent.target.describe(vm.instance_uuid))
    now = agent.clock.now()
    own = frozenset(found.moref for found in leftovers(vm, agent.agent_id))
    interrupted = None if requested else _interrupted(agent, vm, held, own)
    goes_on = [] if interrupted is None else [_goes_on(interrupted)]
    if interrupted is not None:
        made = _as_it_would_go_on(interrupted.plan, vm)
    else:
        made = forecast(vm, held, now, requested=requested, past=past_of(agent, vm, held), own_snapshots=own)
    age = None if held is None else max(0.0, (now - held.taken).total_seconds())
    last = measured.load(agent.state_dir, vm.instance_uuid)
    found = (*findings(agent, vm), *goes_on, *_suspicions(last))
    return Outlook(vm, made, expect(made, last, since_seconds=age), age, rpo_seconds, found)


def _interrupted(agent: Agent, vm: VmInfo, held: HeldPoint | None, own: frozenset[str]) -> InFlight | None:
    """A sync that goes on as far as this side can tell: its snapshot stands, and its point is not committed yet."""
    found = in_flight.load(agent.state_dir, vm.instance_uuid)
    if found is None or found.snapshot.moref not in own or (held is not None and held.number >= found.point):
        return None
    return None if outlived(agent, vm, found) else found


def _as_it_would_go_on(begun: Plan, vm: VmInfo) -> Plan:
    """A reset since the sync began voids its change ids: what is left of those disks is compared."""
    runs = {disk.key: run_of(disk.change_id or "") for disk in vm.disks}
    cause = "change tracking was reset since the sync began"
    disks = tuple(
        replace(disk, kind=Kind.COMPARE, rule="tracking-reset", cause=cause, since=None)
        if disk.since is not None and run_of(disk.since) != runs.get(disk.key)
        else disk
        for disk in begun.disks
    )
    compared = any(disk.kind is Kind.COMPARE for disk in disks)
    return replace(begun, kind=Kind.COMPARE if compared else begun.kind, disks=disks)


def _goes_on(interrupted: InFlight) -> Finding:
    return Finding(
        Severity.NOTE,
        "interrupted-sync",
        f"the sync for point {interrupted.point} was {_ended_as(interrupted)}, and its snapshot stands",
        "a sync goes on with it while the target holds what it got, else a new one begins",
    )


def _ended_as(interrupted: InFlight) -> str:
    return "parked" if interrupted.parked is not None else "interrupted or is under way"


def _suspicions(last: Mapping[Kind, Measured]) -> list[Finding]:
    """What earlier syncs saw of encryption inside the guest, each once."""
    told = dict.fromkeys(text for one in last.values() for text in one.suspicions)
    remedy = "deltas will be larger than under VM encryption; use that instead where you can"
    return [Finding(Severity.WARN, "guest-encryption", text, remedy) for text in told]
