"""Every rule over one VM."""

from common.errors import PreconditionError
from source_agent.preflight import disk_rules, site_rules, vm_rules
from source_agent.preflight.finding import Finding, Setting, Severity
from source_agent.vsphere.port import VmInfo

_ORDER = tuple(Severity)
_RULES = (*vm_rules.RULES, *disk_rules.RULES, *site_rules.RULES)


def check(vm: VmInfo, setting: Setting) -> tuple[Finding, ...]:
    """All findings, refusals first, notes last."""
    found = [finding for rule in _RULES for finding in rule(vm, setting)]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def require(vm: VmInfo, findings: tuple[Finding, ...]) -> None:
    """Refuse the VM when a finding does.

    Raises:
        PreconditionError: naming every refusal and its remedy.
    """
    refusals = [finding for finding in findings if finding.severity is Severity.REFUSE]
    if refusals:
        raise PreconditionError(
            "; ".join(finding.sentence for finding in refusals),
            subject=f"vm {vm.name}",
            next_step="; ".join(dict.fromkeys(finding.remedy for finding in refusals)),
        )
