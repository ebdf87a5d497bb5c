"""What every test can rely on, whatever ran before it in the same process."""

import logging
import os
from collections.abc import Iterator

import coverage
import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.order import dealt

# Hypothesis gives each example 200 ms, and calls slow generation unhealthy: no test here may fail for a busy machine.
settings.register_profile("keysapart", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("keysapart")


@pytest.fixture(autouse=True)
def _logging_as_at_the_start():
    """Logging is of the process, and a test that configures it binds it to its own captured output."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(autouse=True, scope="session")
def _core_limit_as_at_the_start():
    """Commands that run in this process would take its core files away for good, and a later test wants some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.protection._no_core_file", lambda: True)
        yield


@pytest.fixture(scope="module")
def uncovered() -> Iterator[None]:
    """Coverage's tracing is off, in this process and in those that it starts: for files that repeat what others cover.

    It costs as much again, and four times as much where little but Python runs.
    """
    tracing = []
    while (one := coverage.Coverage.current()) is not None:
        one.stop()
        tracing.append(one)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COV")]:
            patch.delenv(name)
        yield
    for one in reversed(tracing):
        one.start()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What lasts long begins first."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = dealt(items, [item.nodeid for item in items], workers)
