"""``source-agent run`` as its users run it: a process that keeps RPOs, tells of itself, and stops cleanly."""

import json
import os
import signal
import socket
import stat
import subprocess
import urllib.request
from contextlib import contextmanager
from datetime import timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.clock import SystemClock
from source_agent.daemon import door
from target_appliance.identity.authority import Authority
from tests.end_to_end.gate import gated
from tests.end_to_end.pair import BIN, TENANT, WITHOUT_PAUSES
from tests.end_to_end.waiting import until
from tests.fakes.clock import ManualClock
from tests.lab.configs import TRUST_DOMAIN
from tests.lab.ports import reserved

pytestmark = pytest.mark.lab

PROTECT = '[[protect]]\nvms = [{vms}]\nrpo = "{rpo}"\n'


class Running:
    """The agent as a process; its log is a file beside the lab. ``schedule`` are further lines of that section."""

    def __init__(
        self, pair, metrics, health, *, rpo="10m", vms='"web*", "plain*"', schedule="", command=(BIN / "source-agent",)
    ):
        self.pair = pair
        self.metrics_port, self.health_port = metrics, health
        self.toml = pair.lab.agent_toml
        self.log = pair.folder / "agent.log"
        text = self.toml.read_text()
        self.toml.write_text(
            f'{text}\n{PROTECT.format(rpo=rpo, vms=vms)}\n[schedule]\nstop_grace = "1s"\n{schedule}\n'
            f'[observe]\nmetrics = "127.0.0.1:{metrics}"\nhealth = "127.0.0.1:{health}"\n'
        )
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(pair.folder / "notify"))
        self.manager.settimeout(60)
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [*command, "--config", self.toml, "run"],
                stdout=sink,
                stderr=sink,
                env={**os.environ, "NOTIFY_SOCKET": str(pair.folder / "notify")},
            )

    def told(self, wanted):
        """Return when the service manager was told so."""
        while wanted not in self.manager.recv(4096).decode().splitlines():
            pass

    def status(self):
        outcome = self.pair.source("status", "--json")
        assert outcome.code == 0, (outcome, self.log.read_text())
        return outcome.json

    def rows(self):
        return {row["vm"]: row for row in self.status()["vms"]}

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    def health(self, service=""):
        with grpc.insecure_channel(f"127.0.0.1:{self.health_port}") as channel:
            asked = health_pb2.HealthCheckRequest(service=service)
            return health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10, wait_for_ready=True).status

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def running(pair, **changes):
    with reserved(2) as (metrics, health):
        started = Running(pair, metrics, health, **changes)
        try:
            started.told("READY=1")
            yield started
        finally:
            started.manager.close()
            if started.process.poll() is None:
                started.process.kill()
                started.process.wait()


def both_have_points(agent):
    rows = agent.rows()
    return rows if rows and all(row["point"] for row in rows.values()) else None


def test_two_vms_get_their_points_and_everybody_is_told(pair):
    with running(pair) as agent:
        rows = until("both VMs have a point", lambda: both_have_points(agent), 120)
        assert set(rows) == {"web01", "plain01"}
        for row in rows.values():
            assert (row["point"], row["rpo"], row["rpo_seconds"], row["why"]) == (1, "kept", 600, None)
            assert row["age_seconds"] < 600
            assert row["next_run"]
            assert row["missed_total"] == 0
        agent_told = agent.status()["agent"]
        assert (agent_told["running"], agent_told["vcenter"], agent_told["target"]) == (True, "reachable", "reachable")
        found = agent.metrics()
        for name, row in rows.items():
            labels = f'{{replica="{row["replica"]}",vm="{name}"}}'
            assert 0 <= float(found[f"keysapart_agent_point_age_seconds{labels}"]) < 600
            assert float(found[f"keysapart_agent_rpo_missed{labels}"]) == 0
        assert float(found['keysapart_agent_syncs_total{kind="full",result="committed"}']) == 2
        assert float(found["keysapart_agent_sent_bytes_total"]) > 0
        assert float(found["keysapart_agent_target_reachable"]) == 1
        assert 360 < float(found["keysapart_agent_certificate_days_left"]) < 366
        for service in ("", "vcenter", "target", "schedule"):
            until(
                f"{service!r} works",
                lambda service=service: agent.health(service) == health_pb2.HealthCheckResponse.SERVING,
            )
        assert pair.source("plan", "plain01", "--json").json["rpo_seconds"] == 600
        sock = pair.folder / "agent-state" / "run.sock"
        assert stat.S_IMODE(sock.stat().st_mode) == 0o600
        second = pair.source("run")
        assert second.code == 5
        assert "another source-agent run" in second.err
        assert agent.stop() == 0
        agent.told("STOPPING=1")
        assert not sock.exists()
        left = agent.status()
        assert left["agent"]["running"] is False
        assert {row["vm"]: row["point"] for row in left["vms"]} == {"web01": 1, "plain01": 1}
        assert "no agent is running" in pair.source("status").out


def test_sigint_in_mid_sync_ends_it_without_a_snapshot(pair):
    lab = pair.lab
    with gated(lab) as gate:
        gate.hold_after(2 << 20)
        with running(pair) as agent:
            gate.wait_held()
            row = next(row for row in agent.rows().values() if row["running"])
            assert row["running"]["bytes_total"] > 0
            agent.process.send_signal(signal.SIGINT)
            until("it is stopping", lambda: agent.status()["agent"]["stopping"])
            assert agent.process.wait(60) == 0, agent.log.read_text()
    for vm in ("web01", "plain01"):
        assert lab.control("snapshots", vm) == []
    assert lab.control("orphans") == []
    assert "Traceback" not in agent.log.read_text()
    assert "SIGINT ended the agent" in agent.log.read_text()


def test_policies_are_read_again_and_a_mistake_changes_nothing(pair):
    toml = pair.lab.agent_toml
    toml.write_text(toml.read_text().replace("[log]", '[log]\nformat = "json"'))
    with running(pair) as agent:
        until("both VMs have a point", lambda: both_have_points(agent), 120)
        good = agent.toml.read_text()
        agent.toml.write_text(good.replace('"10m"', '"ten minutes"'))
        agent.process.send_signal(signal.SIGHUP)
        state = pair.folder / "agent-state"
        told = until("the mistake is told", lambda: door.ask(state)["agent"]["config_error"])
        assert "protect.0.rpo" in told
        assert agent.metrics()["keysapart_agent_config_valid"] == "0.0"
        assert {row["vm"] for row in door.ask(state)["vms"]} == {"web01", "plain01"}
        # Without a signal: the file alone.
        agent.toml.write_text(good.replace('"10m"', '"20m"').replace('"plain*"', '"none"'))
        until("the new policy holds", lambda: {n: r["rpo_seconds"] for n, r in agent.rows().items()} == {"web01": 1200})
        assert agent.status()["agent"]["config_error"] is None
        assert agent.stop() == 0
    lines = [json.loads(line) for line in agent.log.read_text().splitlines()]
    assert {"VM protected", "VM no longer protected", "point committed", "stopped"} <= {line["event"] for line in lines}


def test_the_bandwidth_limit_changes_in_mid_sync(pair):
    """At one megabit a second these disks would take minutes."""
    with running(pair, rpo="1h") as agent:
        until("both VMs have a point", lambda: both_have_points(agent), 120)
        good = agent.toml.read_text()
        agent.toml.write_text(f"{good}[bandwidth]\nmbit_per_second = 1\n")
        until("it is read", lambda: "configuration read" in agent.log.read_text())
        for vm in ("web01", "plain01"):
            pair.lab.guest(vm, 2000).write(0, os.urandom(12 << 20))
        # A shorter RPO makes both due at once.
        agent.toml.write_text(f"{good}[bandwidth]\nmbit_per_second = 1\n".replace('"1h"', '"4s"'))
        until("both are held back", lambda: all(row["running"] for row in agent.rows().values()))
        before = agent.rows()
        assert {row["point"] for row in before.values()} == {1}
        agent.toml.write_text(good)
        until(
            "both are done",
            lambda: all(row["point"] > before[vm]["point"] for vm, row in agent.rows().items()),
            60,
        )
        assert agent.stop() == 0


def test_status_without_an_agent_says_so(pair):
    outcome = pair.source("status", "--json")
    assert outcome.code == 4
    assert "no agent runs" in outcome.error["message"]


def test_vms_are_selected_by_tag_and_stay_so_while_tags_cannot_be_read(pair):
    lab = pair.lab
    lab.control("tag", "web01", "Protection/gold")
    lab.control("tag", "plain01", "Protection/silver")
    with running(pair) as agent:
        by_tag = agent.toml.read_text().replace('vms = ["web*", "plain*"]', 'tag = "Protection:gold"')
        agent.toml.write_text(by_tag.replace("[schedule]", '[schedule]\ninventory_every = "1s"'))
        until("the tag selects", lambda: set(agent.rows()) == {"web01"})
        assert agent.status()["agent"]["tags"] == []
        lab.control("fault", "rest.tag-association", "http-503")
        (told,) = until("the failure is told", lambda: agent.status()["agent"]["tags"])
        assert "answers 503" in told
        assert "VMs are selected by the tags as of" in told
        assert set(agent.rows()) == {"web01"}
        assert told in pair.source("status").out
        lab.control("clear-faults")
        until("it is over", lambda: agent.status()["agent"]["tags"] == [])
        lab.control("untag", "Protection/gold")
        (told,) = until("the tag is missed", lambda: agent.status()["agent"]["tags"])
        assert 'no tag "Protection:gold"' in told
        until("nothing bears it", lambda: agent.rows() == {})
        assert agent.stop() == 0


def test_the_daemon_renews_a_certificate_that_is_due(pair):
    folder = pair.folder / "appliance-state" / "authority"
    held = Authority.open(folder, TRUST_DOMAIN, SystemClock()).held
    then = Authority(folder, TRUST_DOMAIN, held, ManualClock(SystemClock().now() - timedelta(days=275)))
    (known,) = pair.done("tenants", "list")["tenants"][0]["agents"]
    issued = then.issue_agent(TENANT, known["agent"])
    (pair.folder / "agent" / "agent.crt").write_bytes(issued.certificate_pem)
    (pair.folder / "agent" / "agent.key").write_bytes(issued.key_pem)
    with running(pair, vms='"plain01"', command=(*WITHOUT_PAUSES, "source-agent")) as agent:
        until("it is renewed", lambda: float(agent.metrics()["keysapart_agent_certificate_days_left"]) > 364)
        assert float(agent.metrics()["keysapart_agent_certificate_not_renewed"]) == 0
        assert agent.status()["agent"]["certificate_error"] is None
        until("a point", lambda: both_have_points(agent), 120)
        until("told", lambda: agent.health("certificate") == health_pb2.HealthCheckResponse.SERVING)
        # A renewal that fails is told, and is no reason to end the agent: the certificate counts for three months.
        pair.done("agents", "revoke", known["agent"])
        (pair.folder / "agent" / "agent.crt").write_bytes(issued.certificate_pem)
        (pair.folder / "agent" / "agent.key").write_bytes(issued.key_pem)
        until("the failure", lambda: float(agent.metrics()["keysapart_agent_certificate_not_renewed"]) == 1)
        until("told", lambda: agent.health("certificate") == health_pb2.HealthCheckResponse.NOT_SERVING)
        assert "was not renewed" in agent.log.read_text()
