"""How old and how large a sync's snapshot may become, and the thread that looks.

What the VM writes while its snapshot stands goes to delta files on its datastore: a sync that crawls must not fill it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from common import log
from common.clock import Clock
from common.duration import spoken
from common.errors import KeysapartError, LimitExceededError
from source_agent.stop import Stop
from source_agent.vsphere.port import Snapshot, VmInfo, VSphere

_GIB: Final = 1 << 30

_log = log.get("snapshots")


@dataclass(frozen=True, slots=True)
class Limits:
    """None: unlimited."""

    max_age_seconds: float | None = None
    max_bytes: int | None = None
    look_seconds: float = 30.0
    """How often the snapshot is looked at."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is looked at, and what it may become."""

    vsphere: VSphere
    vm: VmInfo
    taken: Snapshot
    limits: Limits


def exceeded(limits: Limits, name: str, age_seconds: float, size_bytes: int) -> str | None:
    """Why the sync of the VM ``name`` has to end; None as long as it may go on. Pure."""
    if limits.max_age_seconds is not None and age_seconds > limits.max_age_seconds:
        return (
            f"the snapshot of VM {name} is {spoken(age_seconds)} old and max_age allows "
            f"{spoken(limits.max_age_seconds)}, so the sync was ended before it fills the datastore"
        )
    if limits.max_bytes is not None and size_bytes > limits.max_bytes:
        return (
            f"the snapshot of VM {name} takes {size_bytes / _GIB:.1f} GiB and max_size_gib allows "
            f"{limits.max_bytes / _GIB:.1f}, so the sync was ended before it fills the datastore"
        )
    return None


@contextmanager
def watched(watch: Watch, clock: Clock, stop: Stop) -> Iterator[None]:
    """While the block runs, look at the snapshot now and then; ``stop`` is asked when it exceeds a limit."""
    vsphere, vm, limits = watch.vsphere, watch.vm, watch.limits
    age = max(0.0, (clock.now() - watch.taken.created).total_seconds())
    began = clock.monotonic()
    over = threading.Event()

    def look() -> None:
        while not over.wait(limits.look_seconds):
            size = size_now(vsphere, vm, limits)
            if (cause := exceeded(limits, vm.name, age + clock.monotonic() - began, size)) is not None:
                stop.ask(
                    LimitExceededError(
                        cause,
                        subject=f"vm {vm.name}",
                        next_step="nothing was committed; raise the limit under [snapshot], or give the sync more "
                        "bandwidth",
                    )
                )
                return

    if limits.max_age_seconds is None and limits.max_bytes is None:
        yield
        return
    thread = threading.Thread(target=look, name="snapshot", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def size_now(vsphere: VSphere, vm: VmInfo, limits: Limits) -> int:
    """Bytes, if a limit asks for them; 0 when it cannot be told now: that is no reason to end a sync."""
    if limits.max_bytes is None:
        return 0
    try:
        return vsphere.snapshot_bytes(vm.moref)
    except KeysapartError as error:
        _log.warning("the snapshot's size could not be read", vm=vm.name, cause=error.message)
        return 0
