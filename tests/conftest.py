"""What every test can rely on, whatever ran before it in the same process."""

import logging

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logging_as_at_the_start():
    """Logging is of the process, and a test that configures it binds it to its own captured output."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
