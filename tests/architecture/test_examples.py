"""deploy/*/example.toml: loaded with the real models, complete, and true in what they comment out."""

import re
import tomllib
import typing
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from common.config import load
from source_agent.config import AgentConfig
from target_appliance.config import ApplianceConfig
from tests.architecture.tree import TOP

EXAMPLES = {"agent": AgentConfig, "appliance": ApplianceConfig}
COMMENTED_OPTION = re.compile(r"^# (?=\[[\w.]+\]$|\w+ = )", re.MULTILINE)


def options(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of everything that can be set."""
    for name, field in model.model_fields.items():
        if typing.get_origin(field.annotation) is dict:  # names of the user's own
            yield f"{prefix}{name}.*"
            continue
        inner = next((kind for kind in _kinds(field.annotation) if issubclass(kind, BaseModel)), None)
        if inner is None:
            yield prefix + name
        else:
            yield from options(inner, f"{prefix}{name}.")


def _kinds(annotation: object) -> list[type]:
    parts = getattr(annotation, "__args__", ()) or (annotation,)
    return [part for part in parts if isinstance(part, type)]


def keys(table: dict, prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        if prefix + name in {"kms_named", "vcenter.networks"}:
            yield f"{prefix}{name}.*"
        elif isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for entry in value:
                yield from keys(entry, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize(("half", "model"), EXAMPLES.items())
def test_example_is_a_working_configuration(half, model):
    assert load(TOP / "deploy" / half / "example.toml", model)


@pytest.mark.parametrize(("half", "model"), EXAMPLES.items())
def test_example_shows_every_option_and_no_other(half, model):
    text = (TOP / "deploy" / half / "example.toml").read_text()

    shown = tomllib.loads(COMMENTED_OPTION.sub("", text))

    assert set(keys(shown)) == set(options(model))


@pytest.mark.parametrize(("half", "model"), EXAMPLES.items())
def test_example_explains_every_option(half, model):
    lines = (TOP / "deploy" / half / "example.toml").read_text().splitlines()
    settings = [number for number, line in enumerate(lines) if re.match(r"(# )?\w+ = ", line)]

    # An explanation stands above an option, or above the run of options that it covers.
    unexplained = []
    for number in settings:
        above = number - 1
        while above in settings:
            above -= 1
        if not lines[above].startswith("#"):
            unexplained.append(lines[number])
    allowed = {'host = "vcenter.site.example"', "port = 443"}
    allowed |= {'ca_file = "kms/ca.crt"', 'certificate_file = "kms/client.crt"', 'key_file = "kms/client.key"'}
    assert set(unexplained) <= allowed
