import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from common.clock import SystemClock
from common.errors import BusyError
from common.health.serve import _Board, health_port
from tests.unit.common.health.test_checker import DOWN, FAST, Switch

Answer = health_pb2.HealthCheckResponse
COMPONENTS = ("kms", "store", "catalog", "replication")


@contextmanager
def stub(port: int) -> Iterator[health_pb2_grpc.HealthStub]:
    # A connection of its own: streams of one connection are capped.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def follow(answers: Iterator[Answer], wanted: int) -> None:
    for answer in answers:
        if answer.status == wanted:
            return


def test_each_component_and_the_whole_tell_what_the_checks_found() -> None:
    switches = {name: Switch() for name in COMPONENTS}
    with (
        health_port("127.0.0.1:0", switches, SystemClock(), **FAST, setting="listen.health") as opened,
        stub(opened.port) as health,
    ):
        whole, kms = (
            health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=60, wait_for_ready=True)
            for name in ("", "kms")
        )
        follow(whole, Answer.SERVING)
        follow(kms, Answer.SERVING)
        switches["kms"].error = DOWN
        follow(kms, Answer.NOT_SERVING)
        follow(whole, Answer.NOT_SERVING)
        for name in ("store", "catalog", "replication"):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == Answer.SERVING
        switches["kms"].error = None
        follow(kms, Answer.SERVING)
        follow(whole, Answer.SERVING)
        whole.cancel()
        kms.cancel()


def test_what_stands_apart_says_nothing_of_the_whole() -> None:
    switches = {"kms": Switch(), "kms/acme": Switch()}
    switches["kms/acme"].error = DOWN
    with (
        health_port(
            "127.0.0.1:0", switches, SystemClock(), **FAST, setting="listen.health", apart=["kms/acme"]
        ) as opened,
        stub(opened.port) as health,
    ):
        whole, acme = (
            health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=60, wait_for_ready=True)
            for name in ("", "kms/acme")
        )
        follow(whole, Answer.SERVING)
        switches["kms/acme"].error = None
        follow(acme, Answer.SERVING)
        switches["kms/acme"].error = DOWN
        follow(acme, Answer.NOT_SERVING)
        assert health.Check(health_pb2.HealthCheckRequest(service="")).status == Answer.SERVING
        whole.cancel()
        acme.cancel()


def test_before_the_first_check_nothing_serves_and_an_unknown_name_is_told() -> None:
    switch = Switch()
    switch.free.clear()
    with (
        health_port("127.0.0.1:0", {"kms": switch}, SystemClock(), **FAST, setting="listen.health") as opened,
        stub(opened.port) as health,
    ):
        for name in ("", "kms"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True, timeout=30)
            assert answer.status == Answer.NOT_SERVING
        with pytest.raises(grpc.RpcError) as refused:
            health.Check(health_pb2.HealthCheckRequest(service="nonsense"))
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        switch.free.set()


def test_more_watchers_than_threads_do_not_keep_a_probe_waiting() -> None:
    with ExitStack() as opened:
        port = opened.enter_context(
            health_port("127.0.0.1:0", {"kms": Switch()}, SystemClock(), **FAST, setting="listen.health")
        ).port
        watching = [opened.enter_context(stub(port)) for _ in range(4)]
        first = watching[0].Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60)
        follow(first, Answer.SERVING)
        more = [health.Watch(health_pb2.HealthCheckRequest(), timeout=60) for health in watching for _ in range(8)]
        probe = opened.enter_context(stub(port))
        for _ in range(5):
            assert probe.Check(health_pb2.HealthCheckRequest(), timeout=30).status == Answer.SERVING
        for watch in (first, *more):
            watch.cancel()


def test_watchers_that_hang_up_while_the_status_changes_freeze_nothing() -> None:
    switch = Switch()
    with (
        health_port("127.0.0.1:0", {"kms": switch}, SystemClock(), **FAST, setting="listen.health") as opened,
        stub(opened.port) as health,
    ):
        for turn in range(40):
            watches = [health.Watch(health_pb2.HealthCheckRequest(service="kms"), timeout=60) for _ in range(4)]
            for watch in watches:
                next(watch)
            switch.error = None if turn % 2 else DOWN
            for watch in watches:
                watch.cancel()
            health.Check(health_pb2.HealthCheckRequest(), timeout=30, wait_for_ready=True)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BusyError, match=address), health_port(address, {}, SystemClock(), setting="listen.health"):
            pass


def test_it_closes_while_a_check_hangs() -> None:
    switch = Switch()
    switch.free.clear()
    with health_port("127.0.0.1:0", {"kms": switch}, SystemClock(), **FAST, setting="listen.health") as opened:
        port = opened.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    switch.free.set()


def test_checks_that_share_a_service_are_not_named_and_it_serves_while_all_of_them_work() -> None:
    servicer, names = HealthServicer(), ("kms", "kms/acme", "kms/globex")
    board = _Board(servicer, {names[0]: names[0], **dict.fromkeys(names[1:], "kms-named")}, frozenset(names[1:]))
    told = []
    for name, trouble in ((names[0], None), (names[1], None), (names[2], None), (names[2], "down"), (names[1], None)):
        board.note(name, trouble)
        told.append(servicer._server_status["kms-named"])
    assert told == [Answer.NOT_SERVING, Answer.NOT_SERVING, Answer.SERVING, Answer.NOT_SERVING, Answer.NOT_SERVING]
    assert servicer._server_status.keys() == {"", "kms", "kms-named"}
    assert servicer._server_status[""] == Answer.SERVING


def test_names_that_strangers_make_up_are_told_once_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[HealthServicer] = []
    add = health_pb2_grpc.add_HealthServicer_to_server
    monkeypatch.setattr(
        health_pb2_grpc,
        "add_HealthServicer_to_server",
        lambda servicer, server: (made.append(servicer), add(servicer, server)),
    )
    with (
        health_port("127.0.0.1:0", {"kms": Switch()}, SystemClock(), **FAST, setting="listen.health") as opened,
        stub(opened.port) as health,
    ):
        for number in range(50):
            asked = health_pb2.HealthCheckRequest(service=f"nobody {number}")
            told = list(health.Watch(asked, timeout=60, wait_for_ready=True))
            assert [one.status for one in told] == [Answer.SERVICE_UNKNOWN]
        next(health.Watch(health_pb2.HealthCheckRequest(service="kms"), timeout=60))
        assert list(made[0]._send_response_callbacks) == ["kms"]
