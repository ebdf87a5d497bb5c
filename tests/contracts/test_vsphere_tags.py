"""What every driver of the vSphere port tells about tags, in memory as against a vCenter."""

import pytest

from tests.contracts.vsphere_worlds import PLAIN, WEB

GOLD, SILVER, OTHER = "Protection:gold", "Protection:silver", "Owner:gold"


@pytest.fixture
def tags(world):
    """Three tags in two categories that no VM bears yet."""
    for tag in (GOLD, SILVER, OTHER):
        world.tag("", tag)
    yield world
    for tag in (GOLD, SILVER, OTHER):
        world.untag("", tag)


def morefs(world, *names):
    return frozenset(world.vsphere.vm(name).moref for name in names)


def test_a_tag_tells_its_vms(tags):
    tags.tag(WEB, GOLD)
    tags.tag(PLAIN, GOLD)
    tags.tag(PLAIN, SILVER)
    assert tags.vsphere.tagged({GOLD, SILVER}) == {GOLD: morefs(tags, WEB, PLAIN), SILVER: morefs(tags, PLAIN)}


def test_tags_of_one_name_are_told_apart_by_their_category(tags):
    tags.tag(WEB, OTHER)
    assert tags.vsphere.tagged([GOLD, OTHER]) == {GOLD: frozenset(), OTHER: morefs(tags, WEB)}


@pytest.mark.parametrize("tag", ["Protection:bronze", "protection:gold", "Nothing:gold", "Protection:gold:x"])
def test_a_tag_that_is_not_there_is_left_out(tags, tag):
    tags.tag(WEB, GOLD)
    assert tags.vsphere.tagged({GOLD, tag}) == {GOLD: morefs(tags, WEB)}
    assert tags.vsphere.tagged({tag}) == {}


def test_a_tag_that_was_taken_away_is_no_longer_told(tags):
    tags.tag(WEB, GOLD)
    assert tags.vsphere.tagged({GOLD}) == {GOLD: morefs(tags, WEB)}
    tags.untag(WEB, GOLD)
    assert tags.vsphere.tagged({GOLD}) == {GOLD: frozenset()}


def test_nothing_is_told_of_tags_that_nobody_asked_for(tags):
    tags.tag(WEB, GOLD)
    assert tags.vsphere.tagged(frozenset()) == {}
    assert tags.vsphere.tagged({SILVER}) == {SILVER: frozenset()}
