import pytest

from tests.contracts.vsphere_worlds import MemoryWorld, in_lab
from tests.lab.fixtures import lab

__all__ = ["lab"]


@pytest.fixture(params=["memory", pytest.param("lab", marks=pytest.mark.lab)])
def world(request, tmp_path):
    """A site to try a contract on."""
    if request.param == "memory":
        yield MemoryWorld(tmp_path / "site")
        return
    with in_lab(request.getfixturevalue("lab")) as found:
        yield found
