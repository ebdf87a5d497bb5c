"""RPCs as events: what the edge tells of each call that its policy row says to audit, and of each that it refuses."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from target_appliance.audit.event import BEGUN, OK, Event, Fact, What, Who
from target_appliance.audit.recorder import Recorder
from target_appliance.identity.authn import Identity

ASKED: Final = "asked"
"""Outcome of a call that is about to be served."""


@dataclass(frozen=True, slots=True)
class CallMade:
    """One call, before and after it is served."""

    method: str
    """Without its service."""
    identity: Identity | None
    """None when the caller proved none."""
    outcome: str
    """ASKED, BEGUN (data are about to go out), OK, or the reason of the refusal."""
    facts: Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class _Word:
    """How a method is told."""

    what: What | None
    """None: what it does is told where it is done."""
    ends: bool = False
    """Belongs to a sync that runs already, which may end even when the log cannot be written."""


_WORDS: Final = {
    "BeginSync": _Word(What.SYNC_BEGUN),
    "GetManifest": _Word(What.MANIFEST_READ),
    "WriteDisk": _Word(What.DISK_WRITTEN, ends=True),
    "ResumeSync": _Word(What.SYNC_RESUMED, ends=True),
    "CommitSync": _Word(None, ends=True),
    "AbortSync": _Word(None, ends=True),
    "RenewCertificate": _Word(What.CERTIFICATE_RENEWED),
    "ReadDisk": _Word(What.DISK_READ),
}
_OTHER: Final = _Word(What.CALL)


class CallAudit:
    """Called by the edge with each CallMade."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def acting(self, identity: Identity) -> AbstractContextManager[None]:
        """What this thread does within the block is the caller's doing: keys are used for it."""
        return self._recorder.log.acting(_who(identity))

    def __call__(self, call: CallMade) -> None:
        """Tell it.

        Raises:
            LimitExceededError: its tenant acts too often.
            StoreError, StoreFullError: the log cannot be written, and the call is none that ends something.
        """
        word = _WORDS.get(call.method, _OTHER)
        who = _stranger(call) if call.identity is None else _who(call.identity)
        if call.outcome == ASKED:
            if not word.ends and call.identity is not None:
                self._recorder.admit(call.identity.tenant)
        elif call.outcome not in {BEGUN, OK}:
            # A refused caller's own word for the object is not repeated: it would make each refusal another one.
            self._recorder.refused(Event(What.REFUSED, who, f"call {call.method}", call.outcome, call.facts))
        elif word.what is not None:
            event = Event(word.what, who, _object(call), call.outcome, call.facts)
            self._recorder.record(event, strict=not word.ends)


def _who(identity: Identity) -> Who:
    return Who(identity.role.value, identity.agent, identity.tenant)


def _stranger(call: CallMade) -> Who:
    return Who("stranger", f"certificate {call.facts.get('certificate')}")


def _object(call: CallMade) -> str:
    for kind in ("replica", "sync"):
        if kind in call.facts:
            return f"{kind} {call.facts[kind]}"
    return f"call {call.method}"
