"""Asks each component over and over whether it works. One that hangs counts as failing, and hides no other.

Each component has a thread of its own for its check, because a check may hang for as long as it likes. A failure is
seen at the latest after ``INTERVAL_SECONDS`` + ``PATIENCE_SECONDS`` + ``TICK_SECONDS``.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common import log
from common.clock import Clock
from common.errors import KeysapartError

INTERVAL_SECONDS = 3.0
"""Between two checks of a component."""
PATIENCE_SECONDS = 4.0
"""A check that takes longer counts as failed until it ends."""
TICK_SECONDS = 0.5
"""Between two looks at what the checks found."""

Check = Callable[[], None]
"""Returns when the component works; raises KeysapartError with the reason when it does not."""
Report = Callable[[str, str | None], None]
"""Takes a component's name and why it does not work, None when it does; called at each change."""

_NOT_YET = "it has not been checked yet"
_log = log.get("health")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a component."""

    trouble: str | None = _NOT_YET
    """Why the last finished check failed; None when it passed."""
    started: float | None = None
    """Monotonic time since when a check is running."""


def judge(finding: Finding, now: float, patience: float) -> str | None:
    """Why the component counts as failing at ``now``; None when it does not."""
    if finding.started is not None and now - finding.started > patience:
        return "it does not answer in time"
    return finding.trouble


class Checker:
    """Runs the checks between ``start`` and ``stop``.

    Args:
        checks: by component's name.
        report: told of every change.
        clock: for how long a check has been running.
        interval: seconds between two checks of a component.
        patience: seconds that a check may take.
        tick: seconds between two looks.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        report: Report,
        clock: Clock,
        *,
        interval: float = INTERVAL_SECONDS,
        patience: float = PATIENCE_SECONDS,
        tick: float = TICK_SECONDS,
    ) -> None:
        self._checks = dict(checks)
        self._report = report
        self._clock = clock
        self._interval, self._patience, self._tick = interval, patience, tick
        self._findings = dict.fromkeys(self._checks, Finding())
        self._reported: dict[str, str | None] = {}
        self._stopping = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="health", daemon=True)

    def start(self) -> None:
        """Begin; nothing is reported as working before its first check."""
        for name in self._checks:
            # A daemon: it may hang in a check when everything else has ended.
            threading.Thread(target=self._keep_checking, args=(name,), name=f"health-{name}", daemon=True).start()
        self._watching.start()

    def stop(self) -> None:
        """End; nothing is reported afterwards. A check that hangs is left behind."""
        self._stopping.set()
        self._watching.join()

    def _keep_checking(self, name: str) -> None:
        while not self._stopping.is_set():
            self._findings[name] = Finding(self._findings[name].trouble, self._clock.monotonic())
            self._findings[name] = Finding(_try(self._checks[name], name))
            self._stopping.wait(self._interval)

    def _watch(self) -> None:
        while True:
            now = self._clock.monotonic()
            for name in self._checks:
                trouble = judge(self._findings[name], now, self._patience)
                if name not in self._reported or self._reported[name] != trouble:
                    self._reported[name] = trouble
                    self._report(name, trouble)
            if self._stopping.wait(self._tick):
                return


def _try(check: Check, name: str) -> str | None:
    try:
        check()
    except KeysapartError as error:
        return error.message
    except Exception as error:  # noqa: BLE001  whatever it is, health must go on telling of the others
        _log.debug("a health check broke", component=name, exc_info=error)
        return f"its check broke ({type(error).__name__})"
    return None
