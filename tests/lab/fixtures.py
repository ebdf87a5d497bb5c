"""Fixtures on a running lab, for any test module: ``from tests.lab.fixtures import lab, vim``."""

from collections.abc import Iterator

import pytest

from tests.lab.site import Lab
from tests.lab.vim import Vim, connected


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for the tests of a module; its first disks have 8 MiB."""
    with Lab(tmp_path_factory.mktemp("lab"), disk_mib=8) as running:
        yield running


@pytest.fixture
def vim(lab: Lab) -> Iterator[Vim]:
    """A session at its vCenter; faults and snapshots of web01 and plain01 are gone afterwards."""
    with connected(lab) as session:
        yield session
    lab.control("clear-faults")
    lab.control("answers", "well")
    lab.control("tracking-unit", 65536)
    lab.control("plug-delay", 0)
    with connected(lab) as session:
        agent = session.vm("agent-vm")
        for orphan in lab.control("orphans"):
            session.detach(agent, next(d for d in agent.config.hardware.device if d.key == orphan["key"]))
        for name in ("web01", "plain01"):
            # Newest first, so that each removal merges only its own layer.
            for one in reversed(lab.control("snapshots", name)):
                session.remove(session.snapshot_of(one["moref"]))
