"""What was found, grouped: the same finding at many VMs is one row. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from common.cli_edge import table
from common.errors import KeysapartError
from source_agent.preflight import Finding, Severity

AGENT = "agent"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Found:
    """A finding, and where."""

    finding: Finding
    where: str = AGENT
    """Name of the VM, or what else it is about."""


@dataclass(frozen=True, slots=True)
class Row:
    """One finding at everything it was made at."""

    severity: Severity
    rule: str
    where: tuple[str, ...]
    sentences: tuple[str, ...]
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """The rows, worst first."""

    vms: int
    """How many were looked at."""
    rows: tuple[Row, ...]

    @property
    def ready(self) -> bool:
        """Nothing blocks."""
        return not any(row.severity is Severity.REFUSE for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "ready": self.ready,
            "vms": self.vms,
            "findings": [
                {
                    "severity": row.severity.value,
                    "rule": row.rule,
                    "where": list(row.where),
                    "sentences": list(row.sentences),
                    "remedy": row.remedy,
                }
                for row in self.rows
            ],
        }

    def lines(self) -> list[str]:
        """For people."""
        looked = f"{self.vms} VM{'' if self.vms == 1 else 's'} looked at"
        verdict = f"{looked}, {'nothing blocks' if self.ready else 'what is marked refuse has to be mended first'}"
        cells = [
            (row.severity.value, row.rule, _places(row.where), row.sentences[0] + _more(row.sentences), row.remedy)
            for row in self.rows
        ]
        return [*(table(("", "finding", "where", "what", "what to do"), cells) if cells else []), verdict]


def _places(where: tuple[str, ...]) -> str:
    shown = ", ".join(where[:_SHOWN])
    return f"{shown} and {len(where) - _SHOWN} more" if len(where) > _SHOWN else shown


def _more(sentences: tuple[str, ...]) -> str:
    return f" (and {len(sentences) - 1} more such)" if len(sentences) > 1 else ""


def report(found: Iterable[Found], vms: int) -> Report:
    """Group findings of one severity, rule and remedy."""
    groups: dict[tuple[Severity, str, str], list[Found]] = {}
    for one in found:
        groups.setdefault((one.finding.severity, one.finding.rule, one.finding.remedy), []).append(one)
    rows = [
        Row(
            severity,
            rule,
            tuple(dict.fromkeys(one.where for one in group)),
            tuple(dict.fromkeys(one.finding.sentence for one in group)),
            remedy,
        )
        for (severity, rule, remedy), group in groups.items()
    ]
    order = tuple(Severity)
    return Report(vms, tuple(sorted(rows, key=lambda row: (order.index(row.severity), -len(row.where)))))


def failure(error: KeysapartError, where: str = AGENT) -> Found:
    """What a check failed with, as a finding."""
    rule = error.reason.lower().replace("_", "-")
    return Found(Finding(Severity.REFUSE, rule, error.message, error.next_step), where)
