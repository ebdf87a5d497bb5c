"""The staged files of one disk: made, listed when complete, let go of together."""

from contextlib import closing

from common.ids import PointNumber, ReplicaId
from target_appliance.recovery import names
from target_appliance.recovery.digests import DigestedFile, DigestListWriter
from target_appliance.recovery.disk_place import DiskPlace
from target_appliance.recovery.replay_file import ReplayFile
from target_appliance.recovery.resting_file import RestingFile


class DiskFiles:
    """Every file of the disk, its digest list first. Not thread-safe; close it when done."""

    def __init__(self, place: DiskPlace, replica: ReplicaId, point: PointNumber) -> None:
        self._place = place
        self._held: list[RestingFile | ReplayFile] = []
        self._names_synced = False
        self.stored_bytes = 0
        """Of the files that are complete."""
        self._list_file = self.create(names.digests_file(place.spec.key))
        try:
            self._list = DigestListWriter(self._list_file, replica, place.spec.key, point)
        except BaseException:
            self._list_file.close()
            raise

    def create(self, name: str) -> RestingFile:
        """A new file, empty."""
        return self.create_at(self._place.path(name))

    def create_at(self, path: str) -> RestingFile:
        """The same, anywhere in the store."""
        resume = self._place.resume
        make = RestingFile.anew if resume is not None and resume.reopened else RestingFile
        file = make(self._place.store, path)
        self.hold(file)
        self._names_synced = False
        return file

    def hold(self, file: RestingFile | ReplayFile) -> None:
        """Let go of ``file`` with the others."""
        self._held.append(file)

    def settle(self, name: str, file: DigestedFile) -> None:
        """Make a complete file durable, list it, and close it."""
        file.sync()
        self._list.add(name, file.position, file.digests())
        self.stored_bytes += file.position
        file.close()

    def finish_list(self) -> None:
        """Complete the digest list, durable; every other file was settled."""
        with closing(self._list_file):
            self._list.finish()
            self._list_file.sync()
            self.stored_bytes += self._list_file.position

    def sync_names(self) -> None:
        """Make the names of new files durable."""
        resume = self._place.resume
        if not self._names_synced and resume is not None:
            self._place.store.sync_folder(self._place.folder)
            self._place.store.sync_folder(resume.folder)
            self._names_synced = True

    def rest(self) -> None:
        """Make all durable and hold no descriptor until the next write."""
        for file in self._held:
            file.rest()

    def close(self) -> None:
        """Let go of all."""
        for file in self._held:
            file.close()
