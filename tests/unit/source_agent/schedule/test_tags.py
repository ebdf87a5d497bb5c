from source_agent.schedule.policy import Policy
from source_agent.schedule.tags import bearing, missing, wanted
from tests.unit.source_agent.schedule.day import place

WEB, DB = place("web01", "esx1", ("ds1",)), place("db01", "esx1", ("ds1",))


def test_the_tags_of_all_policies_are_wanted():
    policies = [Policy(rpo=1, tag="a:b"), Policy(rpo=1, tag="a:b", vms=("x",)), Policy(rpo=1), Policy(rpo=1, tag="c:d")]
    assert wanted(policies) == {"a:b", "c:d"}


def test_each_vm_gets_its_own_tags():
    web, db = bearing([WEB, DB], {"a:b": {WEB.moref, "vm-gone"}, "c:d": {WEB.moref}, "e:f": ()})
    assert (web.tags, db.tags) == ({"a:b", "c:d"}, frozenset())
    assert web.name == WEB.name


def test_what_is_missing_is_one_sentence_each():
    found = missing({"z:y", "a:b", "c:d"}, {"c:d": frozenset()})
    assert [text.split('"')[1] for text in found] == ["a:b", "z:y"]
    assert missing({"c:d"}, {"c:d": frozenset()}) == ()
