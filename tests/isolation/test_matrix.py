"""Every RPC, every role, every kind of object: what a caller may do, and that foreign and absent are one answer."""

import contextlib
from collections.abc import Iterator

import grpc
import pytest
import sqlalchemy

from common.wire.v1.enrollment_pb2 import EnrollRequest
from target_appliance.identity.names import Role
from target_appliance.receive import allowance
from target_appliance.server.rpc_policy import POLICY, TenantRule
from target_appliance.store.memory import MemoryStore
from tests.architecture.test_rpc_policy import methods
from tests.fakes.served import Served, served
from tests.faults.store import FaultStore, Trap
from tests.isolation.calls import CALLS, ENROLL, METHODS, UUID, Names, call
from tests.isolation.site import VMS, Site, absent

NAMING = sorted(path for path in METHODS if POLICY[path].tenant_rule not in {TenantRule.TENANT, TenantRule.OWN})
"""Those that name an object."""
MALFORMED = ("", "../../etc/passwd", "A" * 300, VMS["acme"].upper(), "\x00", "11111111\n")

ANY = [grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DATA_LOSS]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    store = FaultStore(MemoryStore(), Trap())
    with served(tmp_path_factory.mktemp("isolation"), store=store) as serving, Site.opened_at(serving) as made:
        yield made


def allowed(path: str, role: Role) -> bool:
    return role in POLICY[path].roles


def test_every_rpc_is_in_the_matrix() -> None:
    assert set(CALLS) == set(METHODS)
    assert set(POLICY) - set(METHODS) == {ENROLL}


@pytest.mark.parametrize("role", Role)
def test_what_is_for_strangers_is_not_served_to_anybody_here(site: Site, role: Role) -> None:
    method = methods()[ENROLL]
    answer = call(site.channels[f"{role} of acme"], ENROLL, method, EnrollRequest(token=bytes(32)))
    assert answer.code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("path", sorted(METHODS))
def test_a_role_does_what_its_row_says_and_no_more(site: Site, path: str, role: Role) -> None:
    own = site.ask(f"{role} of acme", path, site.names("acme"))
    if allowed(path, role):
        assert own.code in ANY, own
        return
    assert own.code is grpc.StatusCode.PERMISSION_DENIED
    for names in (site.names("rival"), absent(), Names(MALFORMED[1], MALFORMED[1])):
        assert site.ask(f"{role} of acme", path, names) == own


@pytest.mark.parametrize("path", NAMING)
def test_foreign_and_absent_are_one_answer(site: Site, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "FRESH_SECONDS", float("inf"))  # what is remembered is no matter of the object
    (role,) = POLICY[path].roles
    site.ask(f"{role} of acme", path, absent())
    site.forget()
    foreign = site.names("rival")
    with _steps(site.serving) as to_foreign:
        answer = site.ask(f"{role} of acme", path, foreign)
    site.forget()
    with _steps(site.serving) as to_absent:
        assert site.ask(f"{role} of acme", path, absent()) == answer
    site.forget()
    assert to_foreign == to_absent, "a different amount of work could be told by its time"
    assert site.ask("agent of rival", "/keysapart.v1.Replication/RenewLease", foreign).code is grpc.StatusCode.OK


@pytest.mark.parametrize("path", NAMING)
def test_a_malformed_name_is_the_callers_fault(site: Site, path: str) -> None:
    (role,) = POLICY[path].roles
    for name in MALFORMED:
        assert site.ask(f"{role} of acme", path, Names(name, name)).code is grpc.StatusCode.INVALID_ARGUMENT, ascii(
            name
        )


@pytest.mark.parametrize("path", sorted(path for path in METHODS if POLICY[path].tenant_rule is TenantRule.TENANT))
def test_what_names_nothing_answers_with_the_callers_own(site: Site, path: str) -> None:
    (role,) = POLICY[path].roles
    channel = site.channels[f"{role} of acme"]
    method = METHODS[path]
    answer = channel.unary_unary(path, lambda message: message.SerializeToString(), bytes)(
        CALLS[path](Names("", "")), timeout=30
    )
    assert not method.server_streaming
    assert VMS["acme"].encode() in answer
    assert VMS["rival"].encode() not in answer


@pytest.mark.parametrize("path", sorted(METHODS))
def test_who_is_shut_out_learns_nothing(site: Site, path: str) -> None:
    objects = (site.names("acme"), absent(), Names(MALFORMED[1], MALFORMED[1]))
    for who, code in (
        ("revoked", grpc.StatusCode.UNAUTHENTICATED),
        ("suspended agent", grpc.StatusCode.PERMISSION_DENIED),
        ("suspended operator", grpc.StatusCode.PERMISSION_DENIED),
    ):
        answers = {site.ask(who, path, names) for names in objects}
        assert {answer.code for answer in answers} == {code}
        assert len(answers) == 1


@contextlib.contextmanager
def _steps(serving: Served) -> Iterator[list[str]]:
    """What the appliance asks catalog and store for, in order, without the names."""
    steps: list[str] = []

    def asked(_connection, _cursor, statement, *_rest):
        steps.append(statement)

    engine = serving.behind.catalog._database._engine
    sqlalchemy.event.listen(engine, "before_cursor_execute", asked)
    calls = serving.store.trap.calls
    before = len(calls)
    try:
        yield steps
    finally:
        steps += [UUID.sub("<id>", step) for step in calls[before:]]
        sqlalchemy.event.remove(engine, "before_cursor_execute", asked)
