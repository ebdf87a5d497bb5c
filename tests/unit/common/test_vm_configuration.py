"""The closed structure of a VM's configuration, against what an agent might say instead."""

import json

import pytest

from common.vm_configuration import parse
from tests.fakes.replica import vm_configuration


def members():
    return json.loads(json.dumps(vm_configuration().as_members()))


def test_it_is_read_back_as_it_was():
    assert parse(members()) == vm_configuration()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"cpus": -1},
        {"cpus": 1 << 31},
        {"cpus": True},
        {"cpus": "2"},
        {"vtpm": 1},
        {"guest_id": "a b"},
        {"guest_id": "x" * 65},
        {"guest_id": "gu\u00e9st"},
        {"firmware": "uefi"},
        {"key_id": "one too many"},
        {"nics": {}},
        {"nics": [{}]},
        {"nics": "text"},
        {"disks": [{"key": 1, "controller": 2, "unit": 3}] * 257},
        {"boot_order": [{"kind": "usb", "key": 0}]},
    ],
)
def test_what_is_out_of_bounds_is_refused(change):
    with pytest.raises(ValueError, match=r"bounds|member|devices|unknown"):
        parse({**members(), **change})


@pytest.mark.parametrize(
    "change", [{"mac": "00:50:56:0A:0B:0C"}, {"network": "a\x00b"}, {"network": "x" * 129}, {"network_kind": "nsx"}]
)
def test_so_is_a_network_card(change):
    told = members()
    told["nics"][0].update(change)

    with pytest.raises(ValueError, match="bounds"):
        parse(told)


@pytest.mark.parametrize("told", [None, [], "text", {}])
def test_so_is_what_is_no_configuration(told):
    with pytest.raises(ValueError, match="member"):
        parse(told)
