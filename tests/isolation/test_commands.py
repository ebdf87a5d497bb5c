"""The command line in the matrix: every command, every object that it may name, own, foreign, absent and malformed."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import EXIT_NOT_FOUND, EXIT_OK, EXIT_REFUSED, EXIT_USAGE
from tests.isolation.at_rest import ABSENT, FOREIGN, MALFORMED, REPLICAS, VMS, AtRest, made
from tests.isolation.commands import NAMELESS, NOTHING, ROWS, Kind, commands
from tests.unit.target_appliance.cli.conftest import Site

CELLS = [(command, kind) for command, row in ROWS.items() for kind in row.names.values()]


def may_be_foreign(command: str, kind: Kind) -> bool:
    """Whether the line names an owner whose the object may not be. What a command makes is the owner's in any case."""
    row = ROWS[command]
    if kind is Kind.TENANT:
        return Kind.REPLICA in row.names.values() and row.makes is None
    return kind is not Kind.AGENT and kind is not row.makes


FOREIGN_CELLS = [cell for cell in CELLS if may_be_foreign(*cell)]
Made = tuple[Site, dict[str, str]]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Nothing is typed here but what made it, so that its audit log tells of nothing else."""
    return made(tmp_path_factory.mktemp("pristine") / "appliance")


@pytest.fixture(scope="module")
def asked(pristine: Made, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Where lines are typed that are refused."""
    return Site(shutil.copytree(pristine[0].folder, tmp_path_factory.mktemp("asked") / "appliance"))


@pytest.fixture
def there(asked: Site, pristine: Made, tmp_path: Path) -> Iterator[AtRest]:
    """An appliance that must be as it was afterwards, and nothing written aside."""
    at_rest = AtRest(asked, tmp_path, pristine[1])
    before = at_rest.state()
    yield at_rest
    assert at_rest.state() == before
    assert {path.name for path in tmp_path.iterdir()} <= {at_rest.own.image.name}


@pytest.fixture(scope="module")
def foreign(pristine: Made, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is kept of the other tenant."""
    return AtRest(pristine[0], tmp_path_factory.mktemp("aside"), pristine[1]).of("rival")


@pytest.fixture
def copy(pristine: Made, tmp_path: Path) -> AtRest:
    """A copy for lines that change something."""
    return AtRest(Site(shutil.copytree(pristine[0].folder, tmp_path / "copy")), tmp_path, pristine[1])


@pytest.fixture(autouse=True)
def _no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hundred lines are typed here: each in this process, or the matrix would take minutes."""

    def refuse(*_words: object, **_options: object) -> None:
        raise AssertionError("a command was started as a process")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


def test_every_command_is_in_the_matrix() -> None:
    found = {command for command, _ in commands()}
    assert found == ROWS.keys() | NAMELESS.keys()
    assert not ROWS.keys() & NAMELESS.keys()


@pytest.mark.parametrize(("command", "parameters"), list(commands()))
def test_every_parameter_names_an_object_of_the_row_or_nothing(command: str, parameters: frozenset[str]) -> None:
    names = ROWS[command].names.keys() if command in ROWS else set()
    assert names <= parameters
    assert parameters - names <= NOTHING


@pytest.mark.parametrize("command", ROWS)
def test_own_is_done_and_leaves_what_is_foreign_as_it_is(copy: AtRest, foreign: list[str], command: str) -> None:
    own = copy.own
    if ROWS[command].makes is Kind.REPLICA:
        own = own.but(Kind.REPLICA, ABSENT[Kind.REPLICA][0])
    outcome = copy.run(command, own)
    assert outcome.code == (EXIT_REFUSED if ROWS[command].refused else EXIT_OK), outcome
    assert copy.of("rival") == foreign
    for name in ("rival", REPLICAS["rival"], VMS["rival"], copy.agents["rival"]):
        assert name not in outcome.out + outcome.err


@pytest.mark.parametrize(("command", "kind"), FOREIGN_CELLS)
def test_foreign_and_absent_are_one_answer(there: AtRest, command: str, kind: Kind) -> None:
    for foreign, absent in zip(FOREIGN[kind], ABSENT[kind], strict=True):
        answer = there.ask(command, kind, foreign)
        assert answer.code == EXIT_NOT_FOUND, answer
        assert answer == there.ask(command, kind, absent)


@pytest.mark.parametrize(("command", "kind"), [cell for cell in CELLS if ROWS[cell[0]].makes is not cell[1]])
def test_absent_is_not_found(there: AtRest, command: str, kind: Kind) -> None:
    for absent in ABSENT[kind]:
        answer = there.ask(command, kind, absent)
        assert answer.code == (EXIT_OK if ROWS[command].filters else EXIT_NOT_FOUND), answer


@pytest.mark.parametrize("command", [command for command, row in ROWS.items() if row.filters])
def test_a_list_of_one_tenant_holds_nothing_of_another(there: AtRest, command: str) -> None:
    outcome = there.run(command, there.own.but(Kind.TENANT, "never-named"), "--json")
    assert list(outcome.json.values()) == [[]]


def test_what_a_seed_makes_is_its_tenants_also_where_another_has_one_of_that_id(
    copy: AtRest, foreign: list[str]
) -> None:
    told = []
    for name in (REPLICAS["rival"], ABSENT[Kind.REPLICA][0]):
        outcome = copy.run("seed import", copy.own.but(Kind.REPLICA, name))
        told.append((outcome.code, outcome.out.replace(name, "<name>")))
    assert told[0] == told[1]
    assert told[0][0] == EXIT_OK
    assert copy.of("rival") == foreign


@pytest.mark.parametrize(("command", "kind"), CELLS)
def test_malformed_is_refused_as_input(there: AtRest, command: str, kind: Kind) -> None:
    for name in MALFORMED[kind]:
        outcome = there.run(command, there.own.but(kind, name))
        assert outcome.code == EXIT_USAGE, (name, outcome)
        assert "Traceback" not in outcome.out + outcome.err
        assert (outcome.out + outcome.err).replace("\n", "").isprintable(), "it would steer the terminal"
