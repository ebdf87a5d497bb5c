"""Ids of sessions and the password are in no log, no error, and no traceback, whatever goes wrong."""

import base64
import traceback

import pytest
import structlog

from common import log
from common.clock import SystemClock
from common.errors import KeysapartError
from source_agent.vsphere.connection import connect
from source_agent.vsphere.rest import Rest
from source_agent.vsphere.tags import tagged
from tests.contracts.vsphere_worlds import settings
from tests.end_to_end.search import hits_in, text_disguises
from tests.lab.fixtures import lab

__all__ = ["lab"]

pytestmark = pytest.mark.lab


@pytest.fixture
def debug():
    log.configure(level="debug")
    yield
    structlog.reset_defaults()


def troubles(lab):
    """What goes wrong, one thing after the other."""
    yield "nothing"
    lab.control("expire-sessions")
    yield "no session"
    for method in ("Login", "RetrievePropertiesEx", "rest.session", "rest.tag"):
        lab.control("expire-sessions")
        lab.control("fault", method, "InvalidLogin")
        yield method
        lab.control("clear-faults")
    lab.control("vcenter", "stop")
    yield "no vCenter"
    lab.control("vcenter", "start")


def _soap_session(vcenter):
    """The value of ``vmware_soap_session=VALUE; ...``."""
    return (vcenter._session._stub.cookie or "=").split(";")[0].partition("=")[2].strip('"')


def test_sessions_are_told_to_nobody(lab, debug, capfd):
    told, sessions, failed = [], set(), 0
    rest, vcenter = Rest(settings(lab)), connect(settings(lab), SystemClock())
    lab.control("tag", "web01", "Protection/gold")
    try:
        for _trouble in troubles(lab):
            for ask in (lambda: tagged(rest, {"Protection:gold"}), vcenter.vms):
                sessions.add(rest._token)
                sessions.add(_soap_session(vcenter))
                try:
                    ask()
                except KeysapartError as error:
                    failed += 1
                    told += ["".join(traceback.format_exception(error)), repr(error), str(error.__dict__)]
    finally:
        lab.control("clear-faults")
        lab.control("vcenter", "start")
        rest.close()
        vcenter.close()
        lab.control("untag", "Protection/gold")
    printed = capfd.readouterr()
    told += [printed.out, printed.err]
    sessions.discard("")
    assert len(sessions) >= 4
    assert failed >= 4
    login = base64.b64encode(f"{lab.vcenter.user}:{lab.vcenter.password}".encode()).decode()
    pieces = [one.encode() for one in told]
    for word in (*sessions, login, lab.vcenter.password):
        assert hits_in("what was told", pieces, text_disguises(word)) == []
    assert hits_in("a search that finds", [lab.vcenter.password.encode()], text_disguises(lab.vcenter.password))
