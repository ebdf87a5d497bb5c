"""Why an RPO was missed, at the moment when it is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.duration import spoken
from source_agent.schedule.decide import Hold
from source_agent.schedule.vm import Vm


@dataclass(frozen=True, slots=True)
class Running:
    """A sync under way; times in monotonic seconds."""

    vm: Vm
    began: float
    compare: bool
    """It was asked to compare everything."""
    waited: float
    """From when it was due until it began."""
    hold: tuple[Hold, ...]
    """What it waited for, at last."""


def why(vm: Vm, now: float, running: Running | None, hold: Sequence[Hold]) -> tuple[str, str]:
    """The cause as a word and as a sentence.

    Args:
        vm: whose newest point is too old at ``now``.
        now: monotonic seconds.
        running: its sync, when one is under way.
        hold: what it waits for; empty unless it is due and does not run.
    """
    what = "its first sync" if vm.taken is None else "its sync"
    if vm.failures:
        times = "once" if vm.failures == 1 else f"{vm.failures} times"
        return "failing", f"{what} failed {times}, last because {vm.error}"
    if vm.stopped:
        return "agent-stopped", f"no agent ran for {spoken(vm.stopped)} after it was due"
    if vm.policy_since > max(vm.since, vm.due):
        return (
            "policy-changed",
            f"its RPO was set to {spoken(vm.policy.rpo)} when its newest point was older already",
        )
    if running is None:
        return _waiting(vm, now, hold)
    if running.compare:
        what = "a compare that was due"
    has_run = f"{what} has been running for {spoken(now - running.began)}"
    if not running.hold or running.waited < 0.5 * (now - running.began):
        return "slow-sync", f"{has_run}, its RPO is {spoken(vm.policy.rpo)}"
    return _cause(running.hold), f"it waited {spoken(running.waited)} for {places(running.hold)}, and {has_run}"


def _waiting(vm: Vm, now: float, hold: Sequence[Hold]) -> tuple[str, str]:
    if not hold:
        return "stopping", "the agent is stopping"
    return _cause(hold), f"it has been waiting for {places(hold)} for {spoken(now - vm.due)}"


def _cause(hold: Sequence[Hold]) -> str:
    return "site-down" if any(one.kind == "site" for one in hold) else "capacity"


def places(hold: Sequence[Hold]) -> str:
    """What is waited for, in words."""
    return " and ".join(str(one) for one in hold)
