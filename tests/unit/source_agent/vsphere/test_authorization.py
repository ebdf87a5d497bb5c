"""What a login may do and see, where the vCenter knows less or says less than was asked."""

import pytest

from common import errors
from source_agent.vsphere.port import KeyProvider, Place
from tests.contracts.vsphere_worlds import WEB, in_lab
from tests.lab.fixtures import lab

__all__ = ["lab"]
pytestmark = pytest.mark.lab


@pytest.fixture
def vsphere(lab):
    with in_lab(lab) as world:
        yield world.vsphere


@pytest.fixture
def moref(vsphere):
    return vsphere.vm(WEB).moref


def test_privileges_that_this_release_does_not_know_are_left_out(vsphere, moref):
    wanted = frozenset({"Datastore.Browse", "VirtualMachine.Config.Levitate"})
    made = vsphere.put_role("odd", wanted)
    assert (made.added, made.unknown) == (("Datastore.Browse",), ("VirtualMachine.Config.Levitate",))
    assert vsphere.lacking(moref, "", {Place.VM: wanted}) == ()


def test_what_the_login_may_not_see_around_a_vm_is_left_open(lab, vsphere, moref):
    lab.control("deny", "Cryptographer.ReadKeyServersInfo")
    assert vsphere.surroundings(moref).key_provider is KeyProvider.UNKNOWN
    lab.control("allow")
    lab.control("fault", "RetrievePropertiesEx", "NoPermission", "--skip", 1, "--count", 2)
    hidden = vsphere.surroundings(moref)
    assert (hidden.host, hidden.vsan_datastores) == ("", ())
    lab.control("fault", "RetrievePropertiesEx", "drop", "--skip", 1, "--count", 2)
    with pytest.raises(errors.SourceUnavailableError):
        vsphere.surroundings(moref)
