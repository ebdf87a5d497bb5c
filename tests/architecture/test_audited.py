"""Every command of the appliance's is told to the audit log, or has a reason not to be."""

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from target_appliance.cli.app import app

NOT_TOLD = {
    "audit show": "looks at the log itself",
    "audit verify": "looks at the log itself",
    "ca status": "lists fingerprints and dates",
    "evidence check": "needs no appliance",
    "kms status": "asks for states of keys, and uses none",
    "keys check-receipt": "needs no appliance",
    "keys status": "asks for states of keys, and uses none",
    "points list": "lists numbers, sizes and times",
    "points plan-retention": "lists times and rules",
    "retention show": "lists rules and holds",
    "replicas": "lists names, sizes and times",
    "serve": "tells its start and stop itself",
    "tenants list": "lists ids and dates",
}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command.callback


def tells(function: Any) -> bool:
    """Whether a function, or one that it calls of its own module or of the pairing's, tells the audit log."""
    source = inspect.getsource(function)
    if "audited(" in source:
        return True
    module = vars(inspect.getmodule(function))
    called = [one for name, one in module.items() if inspect.isfunction(one) and f"{name}(" in source]
    return any("audited(" in inspect.getsource(one) for one in called if one is not inspect.unwrap(function))


def test_every_command_is_told_or_has_a_reason_not_to_be():
    found = {name: inspect.unwrap(callback) for name, callback in commands(typer.main.get_command(app))}

    assert len(found) > 15
    assert [name for name, function in found.items() if name not in NOT_TOLD and not tells(function)] == []
