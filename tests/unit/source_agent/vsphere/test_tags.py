"""The vCenter's REST API, as far as it goes wrong: each fault is one sentence, and none costs the login."""

import pytest

from common.errors import AccessDeniedError, CertificateError, SourceError, SourceUnavailableError
from source_agent.vsphere.rest import Rest
from source_agent.vsphere.tags import tagged
from tests.contracts.vsphere_worlds import settings
from tests.lab.fixtures import lab
from tests.lab.pki import Authority

__all__ = ["lab"]

pytestmark = pytest.mark.lab
GOLD = "Protection:gold"


@pytest.fixture
def rest(lab):
    """A login to a vCenter with one tag, on web01."""
    lab.control("tag", "web01", "Protection/gold")
    made = Rest(settings(lab))
    yield made
    made.close()
    lab.control("clear-faults")
    lab.control("tag-api", "both")
    lab.control("vcenter", "start")
    lab.control("untag", "Protection/gold")


def bears(rest, lab):
    web = next(one["moref"] for one in lab.vcenter.machines if one["name"] == "web01")
    return tagged(rest, {GOLD}) == {GOLD: frozenset({web})}


def logins(lab):
    return lab.control("calls").get("rest.session", 0)


@pytest.mark.parametrize("kind", ["both", "old", "new"])
def test_releases_of_both_kinds_are_read(rest, lab, kind):
    lab.control("tag-api", kind)
    assert bears(rest, lab)


def test_a_reading_logs_in_once_and_asks_few_questions(rest, lab):
    before = lab.control("calls")
    assert bears(rest, lab)
    assert bears(rest, lab)
    after = lab.control("calls")
    asked = {name: count - before.get(name, 0) for name, count in after.items() if name.startswith("rest.")}
    assert asked == {"rest.session": 1, "rest.category": 4, "rest.tag": 4, "rest.tag-association": 2}


def test_an_ended_session_is_logged_in_again_once(rest, lab):
    assert bears(rest, lab)
    before = logins(lab)
    lab.control("expire-sessions")
    assert bears(rest, lab)
    assert logins(lab) == before + 1


def test_a_session_is_ended_with_its_owner(rest, lab):
    lab.control("expire-sessions")
    assert bears(rest, lab)
    rest.close()
    before = logins(lab)
    assert bears(rest, lab)  # a closed one is opened again by the next question
    assert logins(lab) == before + 1


@pytest.mark.parametrize("kind", ["old", "new"])
def test_a_wrong_password_is_refused_without_asking_twice(rest, lab, tmp_path, kind):
    lab.control("tag-api", kind)
    wrong = tmp_path / "password"
    wrong.write_text("Tr0ub4dor&3\n")
    refused = Rest(settings(lab, password_file=wrong))
    before = logins(lab)
    with pytest.raises(AccessDeniedError, match="reading the tags failed \\(the vCenter answers 401\\)") as told:
        tagged(refused, {GOLD})
    refused.close()
    assert "Tr0ub4dor" not in f"{told.value!r} {told.value.next_step}"
    assert logins(lab) - before == (2 if kind == "old" else 1)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("rest.session http-503", SourceUnavailableError, "answers 503"),
        ("rest.category http-500", SourceUnavailableError, "answers 500"),
        ("rest.category http-401", AccessDeniedError, "answers 401"),
        ("rest.tag-association http-403", AccessDeniedError, "answers 403"),
        ("rest.tag http-400", SourceError, "answers 400"),
        ("rest.tag-association drop", SourceUnavailableError, "reading the tags failed"),
    ],
)
def test_each_fault_is_one_sentence(rest, lab, fault, kind, says):
    lab.control("fault", *fault.split())
    with pytest.raises(kind, match=says) as told:
        tagged(rest, {GOLD})
    assert type(told.value) is kind
    assert told.value.next_step
    lab.control("clear-faults")
    assert bears(rest, lab)


@pytest.mark.parametrize("fault", ["drop", "drop-after"])
def test_a_lost_connection_is_made_anew(rest, lab, fault):
    assert bears(rest, lab)
    lab.control("fault", "rest.tag-association", fault, "--count", "1")
    assert bears(rest, lab)


def test_without_the_api_the_services_are_named(rest, lab):
    lab.control("tag-api", "none")
    with pytest.raises(SourceError, match="has no REST API, it answers 404") as told:
        tagged(rest, {GOLD})
    assert "vapi-endpoint" in told.value.next_step


def test_a_silent_vcenter_is_given_up(lab, rest):
    lab.control("delay", "rest.session", "3")
    hasty = Rest(settings(lab, timeout_seconds=0.3))
    with pytest.raises(SourceUnavailableError, match=f"{lab.vcenter.port}: .*timed out"):
        tagged(hasty, {GOLD})
    hasty.close()


def test_a_vcenter_that_is_gone_is_named(rest, lab):
    lab.control("vcenter", "stop")
    with pytest.raises(SourceUnavailableError, match=f"{lab.vcenter.port}: Connection refused"):
        tagged(rest, {GOLD})


@pytest.mark.parametrize("pin", [False, True])
def test_another_certificate_is_refused_before_the_password_is_sent(lab, rest, tmp_path, pin):
    stranger = tmp_path / "other.crt"
    Authority("another", stranger)
    trust = {"ca_file": None, "certificate_sha256": "00" * 32} if pin else {"ca_file": stranger}
    before = logins(lab)
    refused = Rest(settings(lab, **trust))
    with pytest.raises(CertificateError):
        tagged(refused, {GOLD})
    refused.close()
    assert logins(lab) == before
