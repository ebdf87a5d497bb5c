import socket
import threading

from source_agent.preflight.probe import AT_ONCE, RUN_SECONDS, Probe
from tests.fakes.clock import ManualClock


def test_a_port_that_listens_and_one_that_does_not():
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_server(("127.0.0.1", 0)) as other:
        port, closed = listening.getsockname()[1], other.getsockname()[1]
        other.close()
        shut = Probe(ManualClock()).shut([("127.0.0.1", port), ("127.0.0.1", closed)])
    assert shut == {("127.0.0.1", closed): "Connection refused"}


def test_each_door_is_tried_once_whoever_asks():
    dialled = []

    def dial(host, port, seconds):
        dialled.append((host, port))
        if host == "esx2":
            raise TimeoutError("timed out")

    probe = Probe(ManualClock(), dial)
    doors = [("esx1", 902), ("esx2", 902)]
    assert probe.shut([*doors, *doors]) == probe.shut(doors) == {("esx2", 902): "timed out"}
    assert probe.shut(doors[:1]) == {}
    assert sorted(dialled) == doors


def test_many_are_tried_at_once_and_no_more_than_the_bound():
    lock, under_way, most = threading.Lock(), 0, 0
    full = threading.Barrier(AT_ONCE)

    def dial(host, port, seconds):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        full.wait(60)  # breaks unless so many come together
        with lock:
            under_way -= 1

    assert Probe(ManualClock(), dial).shut((f"esx{number}", 902) for number in range(3 * AT_ONCE)) == {}
    assert most == AT_ONCE


def test_a_round_has_an_end():
    clock = ManualClock()
    first = threading.Event()

    def dial(host, port, seconds):
        clock.advance(RUN_SECONDS)
        first.set()

    doors = [(f"esx{number}", 902) for number in range(50 * AT_ONCE)]
    shut = Probe(clock, dial).shut(doors)
    assert first.is_set()
    assert 0 < len(shut) < len(doors)
    assert set(shut.values()) == {"not tried, others took too long"}
