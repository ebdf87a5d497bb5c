"""What the audit log knows of a tenant's syncs and verifies. Pure: lines in, values for the report out."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from target_appliance.audit.event import BEGUN, OK, What

Members = Mapping[str, Any]


@dataclass
class History:
    """Of one tenant."""

    syncs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By sync id: when it began, whose it was, and what TLS came to."""
    verified: dict[tuple[str, bool], dict[str, Any]] = field(default_factory=dict)
    """By replica, and whether with the key: the last verify that ended."""
    tls: Counter[str] = field(default_factory=Counter)
    """Calls by TLS version."""
    exchanges: Counter[str] = field(default_factory=Counter)
    """Calls by the group of their key exchange."""
    events: Counter[str] = field(default_factory=Counter)
    """By kind; refusals that were counted together count as many."""
    revealed: list[dict[str, str]] = field(default_factory=list)
    """When data keys of which replica were written to a file in the clear."""
    head_exported: str | None = None
    """When the log's head was last written to a file."""


def read_history(lines: Iterable[Members], tenant: str) -> History:
    """The history of ``tenant`` in an audit log's lines, oldest first."""
    found = History()
    for line in lines:
        facts = line.get("facts") or {}
        if facts.get("command") == "audit head" and line.get("outcome") == OK:
            found.head_exported = line.get("time")
        if line.get("tenant") != tenant:
            continue
        found.events[str(line.get("what"))] += int(facts.get("repeated") or 1)
        if "tls" in facts and line.get("outcome") == OK:
            found.tls[facts["tls"]] += 1
            found.exchanges[facts.get("key_exchange") or "unknown"] += 1
        if facts.get("command") == "keys reveal" and line.get("outcome") == OK:
            found.revealed.append({"object": str(line.get("object")), "time": str(line.get("time"))})
        if line.get("what") == What.SYNC_BEGUN and line.get("outcome") == OK:
            found.syncs[str(facts.get("sync"))] = _sync(line, facts)
        elif facts.get("command") == "verify" and line.get("outcome") != BEGUN and "findings" in facts:
            replica = str(line.get("object")).removeprefix("replica ")
            found.verified[replica, bool(facts.get("with_key"))] = _verify(line, facts)
    return found


def _sync(line: Members, facts: Members) -> dict[str, Any]:
    return {
        "began": line.get("time"),
        "agent": line.get("actor"),
        "certificate": facts.get("certificate"),
        "tls": facts.get("tls"),
        "key_exchange": facts.get("key_exchange"),
        "peer": facts.get("peer"),
    }


def _verify(line: Members, facts: Members) -> dict[str, Any]:
    return {
        "time": line.get("time"),
        "outcome": line.get("outcome"),
        "first_point": facts.get("first_point"),
        "last_point": facts.get("last_point"),
        "bytes": facts.get("bytes"),
        "grains": facts.get("grains"),
        "findings": facts.get("findings"),
    }
