"""The golden tables in tests/golden/retention: what each says, read from its text.

``policy`` and ``now``, then a line per point: number | time | what is on it | kept or dropped | reasons. Times are UTC.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from target_appliance.retention.policy import Policy, parse
from target_appliance.retention.rules import Hold, Point, Verdict

FOLDER = Path(__file__).parents[3] / "golden" / "retention"


@dataclass
class Table:
    policy: Policy | None = None
    now: int = 0
    points: list[Point] = field(default_factory=list)
    holds: dict[int, list[Hold]] = field(default_factory=dict)
    expected: list[Verdict] = field(default_factory=list)


def seconds(text: str) -> int:
    form = "%Y-%m-%d %H:%M:%S" if text.count(":") == 2 else "%Y-%m-%d %H:%M"
    return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp())


def read(path: Path) -> Table:
    table = Table()
    for line in path.read_text().splitlines():
        if line.startswith("policy: "):
            words = line.removeprefix("policy: ")
            table.policy = None if words == "none" else parse([words])
        elif line.startswith("now: "):
            table.now = seconds(line.removeprefix("now: "))
        elif line and not line.startswith("#"):
            _point(table, [cell.strip() for cell in line.split("|")])
    return table


def _point(table: Table, cells: list[str]) -> None:
    number, (weekday, time), marks, verdict, reasons = int(cells[0]), cells[1].split(" ", 1), *cells[2:]
    assert f"{datetime.fromtimestamp(seconds(time), UTC):%a}" == weekday, f"{time} is no {weekday}"
    locked, in_use = None, False
    for mark in filter(None, marks.split("; ")):
        if mark.startswith("locked "):
            locked = seconds(mark.removeprefix("locked "))
        elif mark.startswith("held "):
            table.holds.setdefault(number, []).append(Hold(*mark.removeprefix("held ").split(": ", 1)))
        else:
            assert mark == "in use"
            in_use = True
    assert verdict in {"kept", "dropped"}
    table.points.append(Point(number, seconds(time), locked, in_use))
    why = tuple(reasons.split("; "))
    binding = tuple(one for one in why if one.startswith(("held: ", "locked until ", "a sync under way")))
    table.expected.append(Verdict(number, verdict == "kept", why, binding))
