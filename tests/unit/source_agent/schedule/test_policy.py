import dataclasses

import pytest

from common.errors import NotFoundError
from source_agent.schedule.policy import Policy, policy_of, rpo_of
from tests.unit.source_agent.schedule.day import place

ATTRIBUTES = {"Protection": "gold", "Owner": ""}
VM = place("web01", "esx1", ("ds1",), folder="/site/vm/prod/web", attributes=ATTRIBUTES, tags=frozenset({"Tier:one"}))


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"vms": ("db*", "web*")},
        {"folder": "/site/vm"},
        {"folder": "/site/vm/prod/web"},
        {"attribute": ("Protection", "g*")},
        {"tag": "Tier:one"},
        {"vms": ("web01",), "folder": "/site", "tag": "Tier:one", "attribute": ("Protection", "gold")},
    ],
)
def test_selected(conditions):
    assert Policy(rpo=900, **conditions).selects(VM)


@pytest.mark.parametrize(
    "conditions",
    [
        {"vms": ("WEB*",)},
        {"vms": ("web",)},
        {"folder": "/site/vm/pro"},
        {"folder": "/site/vm/prod/web/deep"},
        {"tag": "Tier:two"},
        {"tag": "tier:one"},
        {"vms": ("db01",), "tag": "Tier:one"},
        {"attribute": ("Protection", "silver")},
        {"attribute": ("protection", "*")},
        {"vms": ("web01",), "attribute": ("Protection", "silver")},
    ],
)
def test_every_condition_must_hold(conditions):
    assert not Policy(rpo=900, **conditions).selects(VM)


def test_the_first_that_fits_counts():
    first, second = Policy(rpo=900, vms=("web*",)), Policy(rpo=3600)
    assert policy_of(VM, (first, second)) is first
    assert policy_of(place("db01", "esx1", ()), (first, second)) is second
    assert policy_of(place("db01", "esx1", ()), (first,)) is None


def test_templates_are_never_protected():
    assert policy_of(dataclasses.replace(VM, template=True), (Policy(rpo=900),)) is None


def test_what_is_excluded_falls_through_to_nothing():
    policies = (Policy(rpo=0, vms=("web*",), exclude=True), Policy(rpo=900))
    assert policy_of(VM, policies) is None
    assert policy_of(place("db01", "esx1", ()), policies) is policies[1]


def test_the_rpo_of_a_vm_by_any_of_its_names():
    policies = (Policy(rpo=900, vms=("web*",)),)
    both = (VM, place("db01", "esx1", ()))
    assert {rpo_of(name, both, policies) for name in ("web01", VM.moref, VM.instance_uuid)} == {900}
    assert rpo_of("db01", both, policies) is None
    with pytest.raises(NotFoundError):
        rpo_of("app01", both, policies)
