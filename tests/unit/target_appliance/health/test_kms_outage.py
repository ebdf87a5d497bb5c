"""At the pace of the product: a key server that stops, hangs and returns, as the health port tells it."""

import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.clock import SystemClock
from common.health.serve import health_port
from target_appliance.kms.kmip.driver import KmipKms
from target_appliance.store.memory import MemoryStore
from target_appliance.store.probe import probe
from tests.contracts.kms_worlds import kmip_settings
from tests.lab.kmip import KmipSite

Answer = health_pb2.HealthCheckResponse
BOUND_SECONDS = 10.0


def wait_for(answers, status):
    """Seconds until the stream says ``status``."""
    began = time.monotonic()
    for answer in answers:
        if answer.status == status:
            return time.monotonic() - began
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("fails", ["stop", "pause"])
def test_not_serving_within_ten_seconds_and_back(tmp_path, fails):
    clock, store = SystemClock(), MemoryStore()
    with KmipSite(tmp_path / "kms") as site:
        kms = KmipKms(kmip_settings(site), clock)
        checks = {"kms": kms.probe, "store": lambda: probe(store)}
        with (
            health_port("127.0.0.1:0", checks, clock, setting="listen.health") as opened,
            grpc.insecure_channel(f"127.0.0.1:{opened.port}") as channel,
        ):
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(service="kms"), timeout=120, wait_for_ready=True)
            wait_for(watch, Answer.SERVING)
            getattr(site, fails)()
            assert wait_for(watch, Answer.NOT_SERVING) < BOUND_SECONDS
            assert health.Check(health_pb2.HealthCheckRequest(service="")).status == Answer.NOT_SERVING
            assert health.Check(health_pb2.HealthCheckRequest(service="store")).status == Answer.SERVING
            {"stop": site.start, "pause": site.resume}[fails]()
            assert wait_for(watch, Answer.SERVING) < 3 * BOUND_SECONDS
            watch.cancel()
        kms.close()
