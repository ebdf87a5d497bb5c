"""The start-up probe: passes on good stores, names what a bad one breaks, leaves nothing behind."""

import pytest

from common.errors import AlreadyExistsError, StoreError, StoreFullError
from target_appliance.store.memory import MemoryStore, MemoryWriteFile
from target_appliance.store.posix import PosixStore
from target_appliance.store.probe import probe
from tests.faults.store import FaultStore, Trap, no_room


def test_good_stores_pass_and_stay_clean(tmp_path):
    store = PosixStore(tmp_path)
    probe(store)
    store.close()

    assert list(tmp_path.iterdir()) == []
    probe(MemoryStore())


def test_what_a_killed_probe_left_goes_with_the_next_one(tmp_path):
    left = tmp_path / "probe" / "old"
    left.mkdir(parents=True)
    (left / "file").write_bytes(b"keysapart pro")
    store = PosixStore(tmp_path)
    probe(store)
    store.close()

    assert list(tmp_path.iterdir()) == []


class Overwriting(MemoryStore):
    def create(self, path):
        try:
            return super().create(path)
        except AlreadyExistsError:
            return MemoryWriteFile(bytearray())


class Replacing(MemoryStore):
    def rename(self, old, new):
        if self.names(new) == () and new.endswith("taken"):
            self.remove_tree(new)
        super().rename(old, new)


class CaseFolding(MemoryStore):
    def open(self, path):
        return super().open(path.replace("FILE", "file"))


class Forgetful(MemoryStore):
    def open(self, path):
        self.content(path)[:] = b""
        return super().open(path)


class Lingering(MemoryStore):
    def names(self, path):
        return (*super().names(path), "old")


@pytest.mark.parametrize(
    ("store", "what"),
    [
        (Overwriting(), "creates a file over an existing one"),
        (Replacing(), "renames a folder over another"),
        (CaseFolding(), "case-sensitive"),
        (Forgetful(), "does not read back"),
        (Lingering(), "new name only"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_store_that_breaks_a_promise_is_refused(store, what):
    with pytest.raises(StoreError, match=what):
        probe(store)
    assert [name for name in MemoryStore.names(store, "tenants") if name.startswith("probe")] == []


def test_every_failing_call_surfaces():
    calls = FaultStore(MemoryStore())
    probe(calls)
    assert len(calls.trap.calls) > 10

    for at in range(1, len(calls.trap.calls) + 1):
        with pytest.raises(StoreError):
            probe(FaultStore(MemoryStore(), Trap(at=at)))


def test_no_room_is_said_so():
    class Full(MemoryStore):
        def free_bytes(self):
            return 1 << 20

    with pytest.raises(StoreFullError, match="1048576 bytes free"):
        probe(Full())
    with pytest.raises(StoreFullError):
        probe(FaultStore(MemoryStore(), Trap(at=3, error=no_room)))
