"""Commands as events: told before they do anything, and when they are done."""

from collections.abc import Iterator
from contextlib import contextmanager

from common.clock import SystemClock
from common.errors import KeysapartError
from target_appliance.audit.event import BEGUN, OK, Event, Fact, What, Who
from target_appliance.audit.local_user import local_user
from target_appliance.audit.log import AuditLog
from target_appliance.config import ApplianceConfig


class Told:
    """A command under way; what it adds to ``facts`` stands in the line for its end."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.outcome = OK


def audit_log(config: ApplianceConfig) -> AuditLog:
    """The appliance's, for a command."""
    return AuditLog(config.audit_dir, SystemClock(), local_user(), head_every=config.audit.head_every)


@contextmanager
def audited(
    config: ApplianceConfig, command: str, about: str = "appliance", tenant: str | None = None, **facts: Fact
) -> Iterator[Told]:
    """Tell the audit log of a command, before and after the block; where there is no appliance yet, nothing is told.

    Args:
        config: the appliance's.
        command: as it is typed, such as ``agents revoke``.
        about: which object.
        tenant: whose; not yet checked.
        facts: what else matters, such as the point.

    Raises:
        StoreError, StoreFullError: the log cannot be written, so the command is not run, or its end is not told.
    """
    told = Told()
    if not config.authority_dir.exists():
        yield told
        return
    log = audit_log(config)
    who = Who(log.who.role, log.who.actor, tenant)  # type: ignore[arg-type]

    def tell(outcome: str) -> None:
        log.append(Event(What.COMMAND, who, about, outcome, {"command": command, **facts, **told.facts}))

    tell(BEGUN)
    try:
        yield told
    except KeysapartError as error:
        tell(error.reason)
        raise
    except BaseException as error:
        tell(type(error).__name__)
        raise
    tell(told.outcome)
