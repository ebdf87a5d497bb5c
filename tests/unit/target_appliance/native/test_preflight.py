from dataclasses import replace

import pytest

from common.errors import PreconditionError
from target_appliance.native.preflight import Host, Surroundings, findings, fit_host, require
from target_appliance.native.privileges import Place

FIT = Surroundings(
    provider="kms",
    provider_kind="vCenter",
    provider_active=True,
    hosts=(Host("host-1", "esx1", connected=True, crypto="safe", has_datastore=True),),
    datastore="store",
    free_bytes=100,
    needed_bytes=100,
    networks={"lan": True},
    appliance_encrypted=True,
    taken_name="",
    lacking={},
)


def host(**changes):
    return (replace(FIT.hosts[0], **changes),)


def test_nothing_to_say_of_a_site_that_is_ready():
    assert findings(FIT) == ()
    require(findings(FIT))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"provider_kind": None}, "key provider kms is not at the vCenter"),
        ({"provider_kind": "unknown"}, "a kind that is not known"),
        ({"provider_kind": ""}, "a kind that is not known"),
        ({"provider_active": False}, "key provider kms is not active"),
        ({"hosts": ()}, "there are none"),
        ({"hosts": host(crypto="incapable")}, "esx1 incapable"),
        ({"hosts": host(crypto="pendingIncapable")}, "esx1 pendingIncapable"),
        ({"hosts": host(crypto="")}, "esx1 does not tell its state"),
        ({"hosts": host(connected=False)}, "esx1 is not connected"),
        ({"hosts": host(has_datastore=False)}, "esx1 has not the datastore"),
        ({"free_bytes": 99}, "datastore store has 99 bytes free"),
        ({"networks": {"lan": False}}, "network lan is not at the vCenter"),
        ({"appliance_encrypted": False}, "the appliance's own VM is not encrypted"),
        ({"taken_name": "web01"}, "a VM web01 is there already"),
        ({"lacking": {Place.NETWORK: frozenset({"Network.Assign"})}}, "lacks Network.Assign on the network"),
    ],
)
def test_what_stands_in_the_way(changes, words):
    (found,) = findings(replace(FIT, **changes))

    assert found.blocks
    assert words in found.what
    assert found.next_step
    with pytest.raises(PreconditionError, match=words):
        require((found,))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"provider_kind": "nativeProvider"}, "derived on the hosts"),
        ({"hosts": host(crypto="prepared")}, "its mode will be switched on"),
        ({"vtpm": True}, "what was sealed to the old one is lost"),
    ],
)
def test_what_is_worth_knowing(changes, words):
    (found,) = findings(replace(FIT, **changes))

    assert (found.blocks, words in found.what) == (False, True)
    require((found,))


def test_everything_in_the_way_is_one_sentence_that_blocking_comes_first_in():
    found = findings(replace(FIT, provider_kind="nativeProvider", provider_active=False, free_bytes=0))

    assert [one.blocks for one in found] == [True, True, False]
    with pytest.raises(PreconditionError, match=r"not active; datastore store has 0 bytes") as refused:
        require(found)
    assert "native" not in refused.value.message


def test_a_host_that_needs_no_change_of_mode_is_taken_first():
    hosts = (
        Host("host-1", "a", connected=True, crypto="prepared", has_datastore=True),
        Host("host-2", "b", connected=False, crypto="safe", has_datastore=True),
        Host("host-3", "c", connected=True, crypto="safe", has_datastore=True),
    )
    assert fit_host(replace(FIT, hosts=hosts)) == hosts[2]
    assert fit_host(replace(FIT, hosts=hosts[:2])) == hosts[0]
    assert fit_host(replace(FIT, hosts=())) is None
