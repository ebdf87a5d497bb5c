"""VMs that are held, disks that the library attached: let go by the next process when this one could not."""

import pytest

from source_agent.disk_read.vddk.marks import ATTACHED, PREPARED, Mark

VM = "vm-1"


def crashed(stage, kind, name):
    """What is on disk after a process died while it held something."""
    Mark(stage.folder / "state" / "vddk", kind, name).leave()


def marks(stage):
    return sorted(path.name for path in (stage.folder / "state" / "vddk").glob("*-*"))


def test_a_vm_is_held_while_the_block_runs(stage):
    root = stage.root()
    with stage.reader(root).held(VM):
        assert root.left("prepared") == ["prepared-vm-1-keysapart agent-1"]
    assert root.left("prepared") == []
    assert marks(stage) == []


def test_an_identity_is_cut_to_what_the_library_takes(stage):
    root = stage.root()
    with stage.reader(root, identity="keysapart " + "x" * 90).held(VM):
        assert root.left("prepared") == ["prepared-vm-1-keysapart " + "x" * 40]
    assert root.left("prepared") == []


def test_a_vm_that_cannot_be_held_is_read_all_the_same(stage):
    root = stage.root()
    root.fault("prepare", 20005)
    with stage.reader(root).held(VM):
        assert root.left("prepared") == []
        assert stage.read(stage.reader(root)) == stage.image
    assert marks(stage) == []


def test_a_block_that_fails_lets_go(stage):
    root = stage.root()
    with pytest.raises(ValueError, match="mine"), stage.reader(root).held(VM):
        raise ValueError("mine")
    assert root.left("prepared") == []


def test_the_next_process_lets_go(stage):
    root = stage.root()
    (root.folder / "prepared-vm-1-keysapart agent-1").touch()
    crashed(stage, PREPARED, VM)
    assert stage.reader(root).release_leftovers() == 0
    assert root.left("prepared") == []
    assert marks(stage) == []


def test_what_a_living_process_holds_stays(stage):
    root = stage.root()
    with stage.reader(root).held(VM):
        stage.reader(root).release_leftovers()
        assert len(root.left("prepared")) == 1


def test_disks_that_a_crashed_process_left_attached_are_detached(stage):
    root = stage.root()
    (root.folder / f"attached-{2**22 + 1}-0").touch()  # of no process: ids end below
    crashed(stage, ATTACHED, "some")
    reader = stage.reader(root, mode="hotadd")
    with reader.open(stage.taken, stage.disk):
        assert reader.release_leftovers() == 1
        assert len(root.left("attached")) == 1
    assert root.left("attached") == marks(stage) == []
    assert reader.release_leftovers() == 0
