import grpc
import pytest
from grpc_status import rpc_status

from common import errors
from common.status_map import STATUS, from_rpc_error, to_status


class _Failed(grpc.RpcError):
    """A failed call as a client stub raises it."""

    def __init__(self, code, details, trailing=()):
        self._code, self._details, self._trailing = code, details, trailing

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._trailing


def _carried(error):
    status = rpc_status.to_status(to_status(error))
    return _Failed(status.code, status.details, status.trailing_metadata)


def test_every_class_has_a_status():
    assert set(STATUS) == set(errors.BY_REASON.values())


@pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.__name__)
def test_there_and_back(kind):
    sent = kind("it broke", subject="vm web01", next_step="mend it")
    got = from_rpc_error(_carried(sent), subject="target x")
    assert type(got) is kind
    assert (got.message, got.subject, got.next_step) == ("it broke", "vm web01", "mend it")
    assert str(got) == "it broke: mend it"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.TargetUnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.TargetUnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.LimitExceededError),
        (grpc.StatusCode.UNIMPLEMENTED, errors.PreconditionError),
        (grpc.StatusCode.UNKNOWN, errors.InternalError),
    ],
)
def test_a_status_without_details(code, kind):
    got = from_rpc_error(_Failed(code, "socket closed"), subject="target x")
    assert type(got) is kind
    assert "socket closed" in got.message
    assert got.subject == "target x"


@pytest.mark.parametrize("domain", [b"otherpart", b"cut"])
def test_details_of_others_are_not_believed(domain):
    failed = _carried(errors.BusyError("a", subject="b", next_step="c"))
    status = rpc_status.from_call(failed)
    status.details[0].value = status.details[0].value.replace(b"keysapart", domain)
    carried = rpc_status.to_status(status)
    got = from_rpc_error(_Failed(carried.code, carried.details, carried.trailing_metadata), subject="target x")
    assert type(got) is errors.InternalError


def test_an_error_that_is_no_call():
    assert type(from_rpc_error(grpc.RpcError("odd"), subject="target x")) is errors.InternalError
