"""What the audit log tells: one frozen value per event, in words that hold no secret and no guest data."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from common.ids import TenantId
from common.log import SECRET_WORDS

Fact = str | int | bool | None

OK: Final = "ok"
BEGUN: Final = "begun"
"""Outcome of an act that is about to be done; another line tells how it ended."""

_MOST_TEXT: Final = 1024


class What(enum.StrEnum):
    """Every kind of event."""

    SERVE_STARTED = "serve-started"
    SERVE_STOPPED = "serve-stopped"
    LOG_HEALED = "log-healed"
    """The line before was cut in the middle by a crash."""
    LOG_RESUMED = "log-resumed"
    """Lines could not be written for a while; those that waited follow."""

    REFUSED = "refused"
    AGENT_PAIRED = "agent-paired"
    """A pairing line was used."""
    CERTIFICATE_RENEWED = "certificate-renewed"
    SYNC_BEGUN = "sync-begun"
    SYNC_RESUMED = "sync-resumed"
    SYNC_COMMITTED = "sync-committed"
    SYNC_ENDED = "sync-ended"
    """Without a point."""
    POINT_FOUND = "point-found"
    """At a start: its commit was cut short by a crash, or it was put into the store."""
    POINT_GONE = "point-gone"
    """At a start: it was committed, and is not in the store any more."""
    POINT_STATE = "point-state"
    """The background verify found a point in another state than before; a first good one goes untold."""
    POINT_DROPPED = "point-dropped"
    """No rule keeps it any more."""
    DISK_WRITTEN = "disk-written"
    MANIFEST_READ = "manifest-read"
    DISK_READ = "disk-read"
    """By a tenant's operator, in the clear."""
    CALL = "call"
    """An audited RPC that has no word of its own."""

    KEK_CREATED = "kek-created"
    KEK_CLAIMED = "kek-claimed"
    """The KMS wrapped what shows from then on that the KEK is the tenant's."""
    KEK_SHOWN = "kek-shown"
    """It unwrapped that again: the KEK is the tenant's."""
    KEK_DESTROYED = "kek-destroyed"
    DEK_WRAPPED = "dek-wrapped"
    DEK_UNWRAPPED = "dek-unwrapped"

    COMMAND = "command"
    """A command that changes or reads something."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who acts."""

    role: str
    """agent or operator of a tenant, ``admin`` for commands, ``appliance`` for what it does of itself, ``stranger``."""
    actor: str | None = None
    """The agent's or operator's id; the operating system's user; a stranger's certificate."""
    tenant: TenantId | None = None
    """Whose data it is about."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event, before it has a place in the chain."""

    what: What
    who: Who
    object: str
    """As errors name their subject: ``replica 4c4c…``, ``kek 17``."""
    outcome: str = OK
    """OK, BEGUN, or the reason of a refusal or failure."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """Whatever else an auditor asks for. A name that smells of a secret is refused."""

    def members(self) -> dict[str, Any]:
        """For the line.

        Raises:
            ValueError: a fact bears the name of a secret, or is neither text nor number: our own mistake.
        """
        for name, value in self.facts.items():
            if any(word in name for word in SECRET_WORDS) or not isinstance(value, Fact):
                raise ValueError(f"the audit log takes no fact called {name}")
        return {
            "what": self.what.value,
            "role": self.who.role,
            "actor": self.who.actor and _bounded(self.who.actor),
            "tenant": self.who.tenant and _bounded(self.who.tenant),
            "object": _bounded(self.object),
            "outcome": self.outcome,
            "facts": {name: _bounded(value) if isinstance(value, str) else value for name, value in self.facts.items()},
        }


def _bounded(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"
