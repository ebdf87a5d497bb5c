"""One write stream's sync: whose frames they are, whether they may be kept, and what its end means for the disk."""

from collections.abc import Callable
from contextlib import suppress

from common.errors import KeysapartError
from common.ids import TenantId
from common.sync.events import Open
from target_appliance.receive.claim import Claim
from target_appliance.receive.open_sync import OpenSync, OpenSyncs
from target_appliance.receive.receiver import Disk
from target_appliance.server.edge import Call
from target_appliance.server.limits import IdleWatch


class DiskStream:
    """See receiver.Stream.

    Args:
        syncs: those that are open.
        watch: told of each frame.
        call: the stream.
        still: raises when the tenant's key may not be used any more.
    """

    def __init__(self, syncs: OpenSyncs, watch: IdleWatch, call: Call, still: Callable[[TenantId], None]) -> None:
        self._still = still
        self._syncs = syncs
        self._watch = watch
        self._call = call
        self._entry: OpenSync | None = None
        self._claim: Claim | None = None

    def open(self, event: Open) -> tuple[Disk, int]:
        """See receiver.Stream."""
        entry = self._syncs.get(self._call.caller, event.sync)
        self._claim = entry.claim(event.disk, self._call.context)
        self._entry = entry
        self._call.facts.update(replica=entry.replica, sync=entry.sync, disk=event.disk)
        return self._claim, entry.staged.disks[event.disk].capacity_bytes

    def take(self, data_bytes: int) -> None:
        """See receiver.Stream."""
        self._alive()
        if self._entry and data_bytes:
            self._entry.share.add(data_bytes, self._alive)

    def _alive(self) -> None:
        self._call.standing.require()
        self._watch.heard(self._call.context)
        if self._entry:
            self._syncs.touch(self._entry)
            self._still(self._entry.owner.tenant)

    def finished(self) -> None:
        """See receiver.Stream."""
        if self._entry and self._claim:
            self._entry.settle(self._claim)

    @property
    def sync(self) -> OpenSync | None:
        """The sync whose disk it writes; None before it said so."""
        return self._entry

    def cut(self) -> None:
        """The stream ended before its time: the disk waits for the next one."""
        if self._entry and self._claim:
            claim, self._claim = self._claim, None
            with suppress(KeysapartError):  # the next stream, or the commit, meets the same
                self._entry.rest(claim)

    def given_up(self) -> None:
        """The stream broke a rule, or the store failed: the disk can never be complete."""
        if self._entry and self._claim:
            self._entry.spoil(self._claim)
