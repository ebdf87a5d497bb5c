"""A live view from begin to end: where it is shown, to whom, and for how long."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.address import HostPort, split
from common.clock import SystemClock
from common.ids import DiskKey
from common.stop_signals import stopped_by_signals
from target_appliance.at_rest import AtRest
from target_appliance.audit.commands import audit_log
from target_appliance.audit.recorder import Recorder
from target_appliance.config import ApplianceConfig
from target_appliance.present.callers import Local, Operators, Shown
from target_appliance.present.listen import tcp_port, unix_socket
from target_appliance.present.live import Live, live

_LOOK_SECONDS: Final = 5.0
"""Between two looks at who and what is still allowed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a view is shown: one of the two."""

    socket: Path | None = None
    address: HostPort | None = None

    def __str__(self) -> str:
        return f"socket {self.socket}" if self.address is None else f"port {self.address}"


@dataclass(frozen=True, slots=True)
class Served:
    """What clients had of a view."""

    clients: int
    bytes: int


def show(
    config: ApplianceConfig,
    held: AtRest,
    shown: Shown,
    disks: Sequence[DiskKey],
    place: Place,
    *,
    seconds: float | None,
    ready: Callable[[Live, int | None], None],
) -> Served:
    """Show ``disks`` of a point until SIGTERM or SIGINT, or for ``seconds``; by the main thread.

    Args:
        config: the appliance's.
        held: its state.
        shown: the point.
        disks: which it has.
        place: where.
        seconds: None for as long as nobody ends it.
        ready: called when clients may connect, with the port where there is one.

    Raises:
        KeyNotUsableError, KmsUnavailableError: the key cannot be had, or may not be used any more.
        NotFoundError, AlreadyExistsError, PreconditionError, InvalidInputError, BusyError: it cannot be shown there.
        DamagedError: a manifest or record is not what was committed.
    """
    clock, stopping = SystemClock(), threading.Event()
    with ExitStack() as life:
        life.enter_context(stopped_by_signals(stopping))
        recorder = Recorder(audit_log(config), clock)
        life.callback(recorder.settle, last=True)
        if place.address is None:
            listener = life.enter_context(unix_socket(place.socket or Path()))
            port = None
            view = life.enter_context(live(held.vault, shown, disks, listener, Local(), clock))
        else:
            operators = Operators(shown, held.authority, config.listen.names, held.catalog.admit, clock, recorder)
            listener = life.enter_context(tcp_port(place.address))
            port = listener.getsockname()[1]
            view = life.enter_context(live(held.vault, shown, disks, listener, operators, clock))
        ready(view, port)
        until = None if seconds is None else clock.monotonic() + seconds
        while not stopping.wait(_LOOK_SECONDS if until is None else min(_LOOK_SECONDS, until - clock.monotonic())):
            if until is not None and clock.monotonic() >= until:
                break
            held.vault.still(shown.tenant)
            held.vault.wipe_old_keys()
            view.clients.require()
            recorder.settle()
    return Served(view.clients.served, view.clients.bytes_read)


def uri(place: Place, port: int | None, export: str) -> str:
    """What a client is given to connect to an export."""
    if place.address is None:
        return f"nbd+unix:///{export}?socket={place.socket}"
    host = split(place.address)[0]
    return f"nbds://{f'[{host}]' if ':' in host else host}:{port}/{export}"
