"""Our own side: the lab, an appliance and an agent as their users start them, one VM with the bench disk.

The lab's vCenter and key servers run beside and take their share of the processors, as they would in no real site.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import Child, loopback, wait_for_port
from tests.lab.guest import GuestDisk

_VM = "plain01"
_KEY = 2000


@dataclass(frozen=True)
class SyncFigures:
    """One sync: what the agent reported, and what it cost."""

    report: dict[str, Any]
    seconds: float
    """From the start of the command to its end, interpreter and logins included."""
    wire_bytes: int
    agent_peak_bytes: int
    appliance_peak_bytes: int
    processor_seconds: float


@dataclass(frozen=True)
class ReadFigures:
    """A disk read back, from the start of our command to the last byte of the image."""

    seconds: float
    peak_bytes: int
    """Of our process."""


class Site:
    """A running lab with a running appliance."""

    def __init__(self, work: Path, appliance: Child) -> None:
        self._work = work
        self._appliance = appliance
        self._lab = work / "lab"
        self.disk = GuestDisk(self._lab / "disks" / _VM / str(_KEY))

    def reset_tracking(self) -> None:
        """As after a crash of the host: all change ids are void."""
        Child(
            [sys.executable, "-m", "tests.lab", "control", str(self._lab), "reset-cbt", _VM], self._work / "log"
        ).finish()

    def sync(self, *options: str) -> SyncFigures:
        """Run the agent once."""
        command = [_program("source-agent"), "--config", str(self._lab / "agent.toml"), "sync", _VM, "--json", *options]
        self._appliance.read_proc()
        before = self._appliance.processor_seconds
        with loopback() as wire, Child(command, self._work / "agent.log") as agent:
            report = json.loads(agent.finish())
        self._appliance.read_proc()
        spent = agent.processor_seconds + self._appliance.processor_seconds - before
        return SyncFigures(report, agent.seconds, wire.sent, agent.peak_bytes, self._appliance.peak_bytes, spent)

    def export(self, out: Path) -> ReadFigures:
        """Write the newest point to a raw image with ``target-appliance export``."""
        with Child(self._target("export", _VM, "--disk", str(_KEY), "--out", str(out)), self._work / "log") as export:
            export.finish()
        return ReadFigures(export.seconds, export.peak_bytes)

    def copy_live(self, out: Path) -> ReadFigures:
        """Show the newest point with ``target-appliance present``, and have nbdcopy write it to a raw image."""
        place = self._work / "live"
        with Child(self._target("present", _VM, "--socket", str(place), "--json"), self._work / "log") as live:
            began = time.monotonic()
            uri = json.loads(live.read_line())["exports"][0]["uri"]
            with Child(["nbdcopy", uri, str(out)], self._work / "log") as copy:
                copy.finish()
            seconds = time.monotonic() - began
            live.read_proc()
        return ReadFigures(seconds, live.peak_bytes)

    def _target(self, *words: str) -> list[str]:
        return [_program("target-appliance"), "--config", str(self._lab / "appliance.toml"), *words]


@contextlib.contextmanager
def site(work: Path, mib: int) -> Iterator[Site]:
    """Both sites under ``work``, with an agent enrolled; everything is stopped on leaving."""
    lab = work / "lab"
    up = [sys.executable, "-m", "tests.lab", "up", str(lab), "--disk-mib", str(mib)]
    appliance = [_program("target-appliance"), "--config", str(lab / "appliance.toml")]
    with Child(up, work / "lab.log") as running:
        if (said := running.read_line()) != "ready":
            raise RuntimeError(f"the lab did not start: {said} {running.tail()}")
        Child([*appliance, "init"], work / "appliance.log").finish()
        Child([*appliance, "tenants", "add", "acme", "--out", str(lab / "agent")], work / "appliance.log").finish()
        port = json.loads((lab / "lab.json").read_text())["appliance"]["data"].rpartition(":")[2]
        with Child([*appliance, "serve"], work / "appliance.log") as serving:
            wait_for_port(int(port), serving)
            yield Site(work, serving)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
