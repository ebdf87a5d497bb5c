"""Every command of ``target-appliance``: which of its parameters name an object, and a whole line that names them.

The command line has one role, the administrator at the appliance, whose own every tenant is. So an object is foreign
where it is another tenant's than the one that the line names. ``ROWS`` and ``NAMELESS`` hold every command and
``NOTHING`` every parameter beside those of the rows; the matrix fails while one lacks.
"""

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import typer

from target_appliance.cli.app import app


class Kind(enum.StrEnum):
    """What a parameter names."""

    TENANT = "tenant"
    REPLICA = "replica"
    POINT = "point"
    DISK = "disk"
    AGENT = "agent"


@dataclass(frozen=True)
class Named:
    """The objects that a line names, and two files of the test's."""

    tenant: str
    replica: str
    point: str
    disk: str
    agent: str
    out: Path
    """Not there; what a line makes goes there."""
    image: Path

    def but(self, kind: Kind, name: str) -> "Named":
        """The same with another object of one kind."""
        return replace(self, **{kind.value: name})


Line = Callable[[Named], list[object]]


@dataclass(frozen=True)
class Row:
    """A command that names objects."""

    line: Line
    names: Mapping[str, Kind]
    """By the parameter's name."""
    makes: Kind | None = None
    """This object need not be there: the command makes it."""
    refused: bool = False
    """Done to what is the owner's, it is refused for a reason of the object's own."""
    filters: bool = False
    """An absent tenant has an empty list."""


_T: Final = {"tenant": Kind.TENANT}
_NAME: Final = {"name": Kind.TENANT}
_R: Final = {**_T, "replica": Kind.REPLICA}
_RP: Final = {**_R, "point": Kind.POINT}


def _in(named: Named, *words: object) -> list[object]:
    return [*words, "--tenant", named.tenant]


def _held(named: Named, *words: object) -> list[object]:
    return _in(named, named.replica, "--point", named.point, "--name", HOLD, *words)


HOLD: Final = "case-17"
"""Of acme's point, before any line is typed."""

ROWS: Final[Mapping[str, Row]] = {
    "replicas": Row(lambda on: ["--tenant", on.tenant], _T, filters=True),
    "points list": Row(lambda on: _in(on, on.replica), _R),
    "points plan-retention": Row(lambda on: _in(on, on.replica), _R),
    "points apply-retention": Row(lambda on: _in(on, on.replica), _R),
    "points hold": Row(lambda on: _held(on, "--reason", "court order"), _RP),
    "points release": Row(_held, _RP),
    "points drop": Row(lambda on: _in(on, on.replica, "--point", on.point), _RP, refused=True),  # it is held
    "reclaim": Row(lambda on: _in(on, on.replica), _R),
    "retention set": Row(lambda on: _in(on, "last=3", "--replica", on.replica), _R),
    "retention show": Row(lambda on: _in(on, "--replica", on.replica), _R),
    "retention clear": Row(lambda on: _in(on, "--replica", on.replica), _R),
    "scrub": Row(lambda on: _in(on, on.replica, "--once"), _R),
    "configuration": Row(lambda on: _in(on, on.replica, "--point", on.point), _RP),
    "verify": Row(lambda on: _in(on, on.replica, "--point", on.point), _RP),
    "export": Row(
        lambda on: _in(on, on.replica, "--point", on.point, "--disk", on.disk, "--out", on.out),
        {**_RP, "disk": Kind.DISK},
    ),
    "present": Row(
        lambda on: _in(on, on.replica, "--point", on.point, "--disk", on.disk, "--socket", on.out, "--for", "1s"),
        {**_RP, "disk": Kind.DISK},
    ),
    "failover": Row(lambda on: _in(on, on.replica, "--point", on.point, "--clean-up"), _RP),
    "drill": Row(lambda on: _in(on, on.replica, "--point", on.point, "--dry-run"), _RP),
    "tenants add": Row(lambda on: [on.tenant], _NAME, makes=Kind.TENANT),
    "tenants suspend": Row(lambda on: [on.tenant], _NAME),
    "tenants resume": Row(lambda on: [on.tenant], _NAME),
    "tenants limit": Row(lambda on: [on.tenant, "--max-vms", 7], _NAME),
    "tenants erase": Row(lambda on: [on.tenant, "--yes", "--receipt", on.out], _NAME),
    "tenants trust": Row(lambda on: [on.tenant, "--remove"], _NAME),
    "agents add": Row(lambda on: [on.tenant], _T),
    "agents revoke": Row(lambda on: [on.agent], {"agent": Kind.AGENT}),
    "operators add": Row(lambda on: [on.tenant, "--out", on.out], _NAME),
    "seed import": Row(lambda on: _in(on, on.replica, "--disk", f"2000={on.image}"), _R, makes=Kind.REPLICA),
    "keys status": Row(lambda on: [on.tenant], _T),
    "keys rotate-kek": Row(lambda on: [on.tenant], _T),
    "keys destroy-old": Row(lambda on: [on.tenant], _T),
    "keys rotate-dek": Row(lambda on: _in(on, on.replica), _R),
    "keys reveal": Row(lambda on: _in(on, on.replica, "--yes", "--out", on.out), _R),
    "audit show": Row(lambda on: ["--tenant", on.tenant], _T, filters=True),
    "evidence make": Row(lambda on: [on.tenant, "--replica", on.replica, "--point", on.point, "--out", on.out], _RP),
}

NAMELESS: Final = {
    "init": "makes the appliance",
    "serve": "its ports are rows of their own",
    "tenants list": "lists all, to the administrator",
    "catalog rebuild": "the whole catalog",
    "kms status": "lists all, to the administrator",
    "keys check-receipt": "reads a file that it is given, and no appliance",
    "audit verify": "the whole log",
    "audit head": "the whole log",
    "evidence check": "reads a file that it is given, and no appliance",
    "ca status": "the appliance's own authority",
    "ca rotate": "the appliance's own authority",
    "ca retire": "the appliance's own authority",
}

NOTHING: Final = {
    *("as_json", "yes", "force", "remove", "destroy_old", "without_key", "once"),
    *("quota_gib", "max_vms", "max_streams", "bandwidth_mib", "valid", "since"),
    *("out", "receipt", "file", "ca", "head", "source", "also", "bundle"),
    *("to", "test", "plan", "clean_up", "keep", "verify"),  # of a failover, at this site's own vCenter
    *("form", "address", "domain", "fingerprint"),
    *("socket", "listen", "lasting"),
    *("expect", "expect_picture", "picture", "within", "dry_run"),
    *("accelerator", "memory_mib", "processors", "firmware"),
    *("kms", "kek"),  # of the KMS, whose names are the administrator's
    *("rules", "lock_days", "hold_name", "reason"),
    "vm_name",  # what a new replica will be called
    "disk",  # of images; export's row says otherwise
}
"""Parameters that name no object of a tenant's."""


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, frozenset[str]]]:
    """Every command as it is typed, with its parameters, from the command line's own tree."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), frozenset(one.name for one in command.params)
