"""What ``source-agent status`` shows: the running agent's word, or what the last one left."""

from pathlib import Path
from typing import Any

from common.cli_edge import table
from common.clock import Clock
from common.errors import NotFoundError
from source_agent import in_flight
from source_agent.daemon import door, status


def status_of(state_dir: Path, clock: Clock, park_seconds: float) -> tuple[dict[str, Any], list[str]]:
    """The document, and its lines for people; ``park_seconds`` is how long a parked sync may wait.

    Raises:
        NotFoundError: no agent runs with this state folder, and none ever did.
    """
    document = door.ask(state_dir)
    moment = status.Moment(clock.monotonic(), clock.now())
    if document is None:
        left = door.load(state_dir)
        if left is None:
            raise NotFoundError(
                f"no agent runs with the state folder {state_dir}, and none has left its status there",
                subject=f"folder {state_dir}",
                next_step="start source-agent run, as the user that may read the folder",
            )
        waiting = status.parked(in_flight.begun(state_dir), moment.wall, park_seconds)
        document = status.left_behind(left, moment, waiting)
    return document, [*_head(document["agent"]), *table(status.HEADINGS, _cells(document, moment))]


def _cells(document: dict[str, Any], moment: status.Moment) -> list[tuple[str, ...]]:
    return [status.cells(row, moment) for row in document["vms"]]


def _head(agent: dict[str, Any]) -> list[str]:
    if not agent["running"]:
        return [f"no agent is running; this is what the last one left at {agent['written']}"]
    lines = [f"{name}: {agent[name]}" for name in ("vcenter", "target") if agent[name] != "reachable"]
    if agent.get("certificate_error"):
        lines.append(f"certificate: {agent['certificate_error']}")
    if agent["config_error"]:
        lines.append(f"the configuration stays as it was: {agent['config_error']}")
    lines += [f"tags: {text}" for text in agent.get("tags", ())]
    return [*lines, *(["the agent is stopping"] if agent["stopping"] else [])]
