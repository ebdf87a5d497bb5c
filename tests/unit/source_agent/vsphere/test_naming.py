import pytest

from common.errors import NotFoundError, PreconditionError
from source_agent.vsphere.naming import pick
from tests.unit.source_agent.vms import VM, vm

OTHER = vm(moref="vm-11", name="vm-10", instance_uuid="99999999-0042-5a10-8030-b4c04f564d31")
TWIN = vm(moref="vm-12", name="web01", instance_uuid="88888888-0042-5a10-8030-b4c04f564d31")


@pytest.mark.parametrize("name", ["web01", "vm-10", VM.instance_uuid, VM.instance_uuid.upper()])
def test_by_name_moref_or_uuid(name):
    assert pick([OTHER, VM], name) is VM


def test_twins_are_listed_by_moref():
    with pytest.raises(PreconditionError, match="vm-10, vm-12"):
        pick([VM, TWIN, OTHER], "web01")
    assert pick([VM, TWIN, OTHER], "vm-12") is TWIN


def test_an_unknown_name_is_printed_safely():
    with pytest.raises(NotFoundError) as caught:
        pick([VM], "web\n\x1b[31m" + "x" * 500)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200
