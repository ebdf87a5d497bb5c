"""What may be cleared of another VM's sync."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from common.ids import AgentId, ReplicaId
from source_agent.leftovers import clear_unfinished
from source_agent.lock import unfinished, vm_lock
from tests.lab.inventory import instance_uuid

VM = ReplicaId(instance_uuid("web01"))
NOT_ASKED: Any = None
"""A vCenter of which nothing can be asked."""


def test_a_sync_that_ends_well_while_another_vm_looks_is_no_leftover(tmp_path: Path) -> None:
    with ExitStack() as sync:
        sync.enter_context(vm_lock(tmp_path, VM, "web01"))
        seen = []

        def pending(vm: ReplicaId) -> bool:
            seen.append(vm)
            sync.close()
            return False

        clear_unfinished(NOT_ASKED, AgentId("agent"), tmp_path, pending)
    assert seen == [VM]
    assert unfinished(tmp_path) == []
    with vm_lock(tmp_path, VM, "web01") as left:
        assert not left


def test_a_sync_that_is_parked_while_another_vm_looks_keeps_what_it_goes_on_with(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError), vm_lock(tmp_path, VM, "web01"):
        raise InterruptedError
    answers = iter((False, True))
    clear_unfinished(NOT_ASKED, AgentId("agent"), tmp_path, lambda _vm: next(answers))
    assert unfinished(tmp_path) == [VM]
