"""Ends of syncs as events: told where they happen, so that no answer to an agent is needed for them."""

from target_appliance.audit.event import Event, Fact, What, Who
from target_appliance.audit.recorder import Recorder
from target_appliance.catalog.rebuild import Changes
from target_appliance.receive.open_sync import OpenSync
from target_appliance.recovery.types import CommittedPoint


class SyncAudit:
    """Never raises: a sync ends whether or not the log can be written."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def committed(self, entry: OpenSync, point: CommittedPoint) -> None:
        """The sync's point is in the store."""
        owner = entry.owner
        facts: dict[str, Fact] = {
            "sync": entry.sync,
            "point": point.number,
            "record_hash": point.record_hash.hex(),
            "stored_bytes": point.stored_bytes,
        }
        who = Who(owner.role.value, owner.agent, owner.tenant)
        self._tell(Event(What.SYNC_COMMITTED, who, f"replica {entry.replica}", facts=facts))

    def ended(self, entry: OpenSync, why: str) -> None:
        """The sync ended without a point."""
        facts: dict[str, Fact] = {"sync": entry.sync, "agent": entry.owner.agent, "why": why}
        who = Who("appliance", tenant=entry.owner.tenant)
        self._tell(Event(What.SYNC_ENDED, who, f"replica {entry.replica}", facts=facts))

    def found(self, changes: Changes) -> None:
        """At the start the store held other points than the catalog: commits that a crash cut short, or losses."""
        for what, rows in ((What.POINT_FOUND, changes.found), (What.POINT_GONE, changes.gone)):
            for row in rows:
                facts: dict[str, Fact] = {"point": row.number, "record_hash": row.record_hash.hex()}
                who = Who("appliance", tenant=row.tenant)
                self._tell(Event(what, who, f"replica {row.replica}", facts=facts))

    def _tell(self, event: Event) -> None:
        self._recorder.record(event, strict=False)
