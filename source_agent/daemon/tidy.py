"""What an earlier agent left on VMs that are not protected any more: no sync of theirs finds it, so the start does."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from common import log
from common.errors import KeysapartError
from common.ids import ReplicaId
from source_agent.leftovers import clear_unfinished
from source_agent.needs import Agent

_log = log.get("leftovers")


@contextmanager
def tidying(agent: Agent) -> Iterator[Callable[[Collection[ReplicaId]], None]]:
    """Yields what lets go, on a thread, of snapshots on all VMs but those given; the block's end waits for it."""
    threads = []

    def tidy(protected: Collection[ReplicaId]) -> None:
        thread = threading.Thread(target=_tidy, args=(agent, protected), name="leftovers", daemon=True)
        threads.append(thread)
        thread.start()

    try:
        yield tidy
    finally:
        for thread in threads:
            thread.join()


def _tidy(agent: Agent, protected: Collection[ReplicaId]) -> None:
    try:
        agent.reader.release_leftovers()
        clear_unfinished(agent.vsphere, agent.agent_id, agent.state_dir, lambda vm: vm in protected)
    except KeysapartError as error:
        _log.warning("what an earlier agent left was not looked for", cause=error.message)
