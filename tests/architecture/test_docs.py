"""Documentation that can be held against the code: links, exit codes, reasons."""

import re

import pytest
import typer

import source_agent.cli
import target_appliance.cli.app
from common import errors
from tests.architecture.tree import TOP, name, tracked

PAGES = [path for path in tracked() if path.suffix == ".md"]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
EXIT_CODES = {value for constant, value in vars(errors).items() if constant.startswith("EXIT_")}


def rows(page: str, first_cell: str) -> list[str]:
    """First cells of table rows that match."""
    return re.findall(rf"^\| ({first_cell}) \|", (TOP / page).read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_within_the_tree_lead_somewhere(page):
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    targets = [link for link in LINK.findall(prose) if "://" not in link]

    assert [link for link in targets if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_exit_codes_are_all_there(page):
    assert {int(code) for code in rows(page, r"\d+")} == EXIT_CODES


def test_every_reason_has_its_advice():
    cells = rows("docs/operations.md", r"(?:`[A-Z_]+`(?:, )?)+")

    assert set(re.findall(r"[A-Z_]+", " ".join(cells))) == set(errors.BY_REASON)


def commands(group, path: tuple[str, ...] = ()) -> list[str]:
    """Everything that can be typed, such as ``tenants add``."""
    if not hasattr(group, "commands"):
        return [" ".join(path)]
    return [line for name, command in group.commands.items() for line in commands(command, (*path, name))]


@pytest.mark.parametrize("app", [source_agent.cli.app, target_appliance.cli.app.app], ids=["agent", "appliance"])
def test_readme_lists_every_command(app):
    listed = rows("README.md", r"`[^`]+`")
    typed = commands(typer.main.get_command(app))

    assert typed
    assert [line for line in typed if not any(re.match(rf"`{line}[` ]", cell) for cell in listed)] == []
