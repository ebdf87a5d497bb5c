"""What the guest holds, and what the source site keeps to itself, appears nowhere it should not."""

import os
import random
import secrets
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common.errors import EXIT_OK, ProtocolError
from common.grain import GRAIN_BYTES, GrainKind
from common.sync.events import GrainRecord
from tests.capabilities import SETPCAP, may
from tests.end_to_end import rogue
from tests.end_to_end.inside import inside
from tests.end_to_end.pair import BIN, TENANT, Outcome, Pair
from tests.end_to_end.relay import Relay, relayed
from tests.end_to_end.search import disguises, files, hits, hits_in, shown_by, text_disguises
from tests.lab.inventory import instance_uuid
from tests.lab.site import Lab
from tests.lab.vcenter import KEY_PROVIDER

pytestmark = pytest.mark.lab

VM = "web01"
KEYS = (2000, 2001)
FILE_MOST_BYTES = 1 << 20
"""Largest file that the appliance may write when its store is to fail under it."""


@dataclass
class Watched:
    """A pair that logs at debug, whose every output is kept, with a canary on its guest's disks."""

    pair: Pair
    relay: Relay
    temporary: Path
    canary: bytes
    told: list[bytes] = field(default_factory=list)
    """What all commands printed."""

    @property
    def lab(self) -> Lab:
        """The pair's."""
        return self.pair.lab

    def keep(self, outcome: Outcome) -> Outcome:
        """Note what a command printed, to be searched."""
        self.told += [outcome.out.encode(), outcome.err.encode()]
        return outcome

    def sync(self) -> Outcome:
        """A sync, whatever becomes of it."""
        return self.keep(self.pair.source("sync", VM, "--json"))

    def places(self) -> Iterator[Path]:
        """Every file of both sites but the guest's disks, and everything in the folder for temporary files."""
        yield from files(self.lab.folder, without=[self.lab.folder / "disks"])
        yield from files(self.temporary)


def plant(lab: Lab, canary: bytes, rng: random.Random) -> None:
    """Write the canary where each way of carrying a grain meets it, at several alignments."""
    thin = bytearray(GRAIN_BYTES)
    noise = bytearray(rng.randbytes(GRAIN_BYTES))
    for place in (0, 1000, 4097, 30001, GRAIN_BYTES - len(canary)):
        thin[place : place + len(canary)] = noise[place : place + len(canary)] = canary
    text = b"password=" + canary + b"\n"
    for key in KEYS:
        disk = lab.guest(VM, key)
        disk.write(0, bytes(thin))
        disk.write(2 * GRAIN_BYTES, bytes(noise))
        disk.write(4 * GRAIN_BYTES, canary * (GRAIN_BYTES // len(canary)))
        disk.write(7 * GRAIN_BYTES - 15, canary)
        disk.write(9 * GRAIN_BYTES + 77, text * 100)
        disk.write(disk.size - len(canary), canary)


@pytest.fixture
def watched(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    os.utime(temporary, (0, 0))
    monkeypatch.setenv("TMPDIR", str(temporary))
    for config in (lab.agent_toml, lab.appliance_toml):
        text = config.read_text()
        assert 'level = "info"' in text
        config.write_text(text.replace('level = "info"', 'level = "debug"'))
    canary = secrets.token_bytes(32)
    plant(lab, canary, random.Random(canary))
    with relayed(lab, keep=True) as relay, Pair(lab) as pair:
        yield Watched(pair, relay, temporary, canary)


def test_the_guests_bytes_and_the_data_keys_appear_nowhere(watched: Watched) -> None:
    pair, lab, forms = watched.pair, watched.lab, disguises(watched.canary)
    # The search itself: it must find what lies where it may.
    assert any("first half" in hit for hit in hits(files(lab.folder / "disks"), forms))

    assert watched.sync().code == EXIT_OK
    for key in KEYS:
        lab.guest(VM, key).write(11 * GRAIN_BYTES + 5, watched.canary * 3)
    assert watched.sync().code == EXIT_OK
    assert watched.relay.to_target > 8 << 20
    _go_wrong(watched)
    assert watched.sync().code == EXIT_OK

    replica = pair.done("replicas")["replicas"][0]["replica"]
    for words in (["points", replica], ["verify", replica], ["verify", replica, "--without-key"]):
        assert watched.keep(pair.target(*words)).code == EXIT_OK
    # Made before the keys are unwrapped for the search; lies among the places that are searched.
    for words in (["audit", "show"], ["audit", "verify"], ["evidence", TENANT, "--out", lab.folder / "evidence.json"]):
        assert watched.keep(pair.target(*words)).code == EXIT_OK
    with inside(pair) as vault:
        deks = {f"DEK of {key}": vault.dek(replica, key) for key in KEYS}
    assert pair.appliance is not None
    assert pair.appliance.stop() == 0

    places = list(watched.places())
    names = {path.name for path in places}
    assert {"appliance.log", "catalog.sqlite", "disk-2000.vmdk", "point.json", "000001.jsonl", "evidence.html"} <= names
    assert "sync" in pair.log.read_text()
    for secret in [watched.canary, *deks.values()]:
        wanted = disguises(secret)
        assert hits(places, wanted) == []
        assert hits_in("what was printed", watched.told, wanted) == []
        assert hits_in("the wire", watched.relay.seen, wanted) == []
    # Neither now nor at any time before did a temporary file stand there.
    assert watched.temporary.stat().st_mtime == 0


def _rewrite(watched: Watched) -> None:
    """The guest writes other bytes around the canary, so that all of it is sent again."""
    for key in KEYS:
        disk = watched.lab.guest(VM, key)
        disk.write(12 * GRAIN_BYTES, b"".join(watched.canary + secrets.token_bytes(480) for _ in range(4096)))


def _go_wrong(watched: Watched) -> None:
    """Everything that makes either half speak about data: certificates, altered bytes, a store that fails, a crash."""
    pair, lab = watched.pair, watched.lab
    settings = lab.agent_toml.read_text()
    lab.agent_toml.write_text(settings.replace('ca_file = "agent/ca.crt"', 'ca_file = "kms/ca.crt"'))
    assert watched.sync().code != EXIT_OK
    lab.agent_toml.write_text(settings)

    _rewrite(watched)
    watched.relay.flip_after(1 << 20)
    assert watched.sync().code == EXIT_OK  # TLS ends the link, and the sync goes on over another
    _rewrite(watched)

    noise = watched.canary + secrets.token_bytes(GRAIN_BYTES - len(watched.canary))
    for record in (
        GrainRecord(0, GrainKind.RAW, bytes(16), noise),
        GrainRecord(0, GrainKind.LZ4, bytes(16), watched.canary * 64),
        GrainRecord(1 << 30, GrainKind.RAW, bytes(16), noise),
        GrainRecord(0, GrainKind.RAW, bytes(16), watched.canary),
    ):
        refused = rogue.send(lab, str(uuid.uuid4()), [record])
        assert refused is not None
        watched.told.append(f"{refused} {refused!r} {refused.__cause__}".encode())
        if record.grain == 0 and len(record.data) == GRAIN_BYTES:
            assert isinstance(refused, ProtocolError)

    assert pair.appliance is not None
    pair.appliance.stop()
    serve = [BIN / "target-appliance", "--config", pair.config, "serve"]
    pair.serve(command=["prlimit", f"--fsize={FILE_MOST_BYTES}", *serve])
    assert "too large" in watched.sync().error["message"]
    pair.appliance.stop()

    # A crash leaves what was staged.
    pair.serve()
    process = pair.start_source("sync", VM, "--json")
    staging = pair.point_folder(instance_uuid(VM), 1).parents[1] / "staging"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 1 << 20 for path in staging.glob("*/*.vmdk")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.002)
    pair.appliance.kill()
    out, err = process.communicate(timeout=120)
    watched.keep(Outcome(process.returncode, out, err))
    left = list(staging.glob("*/*"))
    assert left
    assert hits(left, disguises(watched.canary)) == []
    pair.serve()


def test_what_the_source_site_keeps_to_itself(watched: Watched) -> None:
    pair, lab = watched.pair, watched.lab
    key_ids = [key["id"] for key in lab.control("source-kms", "list")]
    assert key_ids
    words = [*key_ids, KEY_PROVIDER, lab.source_kms.endpoint, lab.vcenter.password]
    # It is there to be told: the vCenter says it to the agent.
    configured = [lab.folder / "vcenter" / "config.json"]
    for word in words:
        assert hits(configured, text_disguises(word)), word

    assert watched.sync().code == EXIT_OK
    lab.guest(VM, 2000).write(0, b"x")
    assert watched.sync().code == EXIT_OK
    replica = pair.done("replicas")["replicas"][0]["replica"]
    for command in (["points", replica], ["replicas"], ["verify", replica], ["audit", "show"]):
        watched.keep(pair.target(*command, "--json"))
    # Its probe makes and removes files in the store, which a search would stumble over.
    assert pair.appliance is not None
    assert pair.appliance.stop() == 0
    target = [*files(lab.folder / "store"), *files(lab.folder / "appliance-state"), pair.log]
    for word in words:
        assert hits(target, text_disguises(word)) == []
        assert hits_in("what was printed", watched.told, text_disguises(word)) == []


def test_processes_show_nothing_and_leave_no_core(watched: Watched) -> None:
    """Arguments, environments, memory and core files, while a sync is under way."""
    pair, lab = watched.pair, watched.lab
    less = _without_rights()
    assert pair.appliance is not None
    pair.appliance.stop()
    serve = [BIN / "target-appliance", "--config", pair.config, "serve"]
    appliance = pair.serve(command=["prlimit", "--core=unlimited", *less, *serve]).process
    lab.control("delay", "RemoveSnapshot_Task", 4)
    forms = disguises(watched.canary) | text_disguises(lab.vcenter.password)
    with subprocess.Popen([*less, "sleep", "120"]) as ordinary, pair.start_source("sync", VM, "--json") as agent:
        try:
            _wait_for(pair.point_folder(instance_uuid(VM), 1), agent)
            for process in (appliance, agent):
                shown = shown_by(process.pid)
                assert b"sync" in shown[0] or b"serve" in shown[0]
                assert hits_in("arguments and environment", shown, forms) == []
                limits = Path(f"/proc/{process.pid}/limits").read_text()
                (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
                assert core[4:6] == ["0", "0"], limits
            assert _may_be_looked_into(ordinary.pid, less)
            assert not _may_be_looked_into(appliance.pid, less)
            if not less:
                assert not _may_be_looked_into(agent.pid, less)
            out, err = agent.communicate(timeout=60)
            assert watched.keep(Outcome(agent.returncode, out, err)).code == EXIT_OK
        finally:
            agent.kill()
            ordinary.kill()
    appliance.send_signal(signal.SIGABRT)
    ended = os.waitid(os.P_PID, appliance.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert (ended.si_status, ended.si_code) == (signal.SIGABRT, os.CLD_KILLED)


def _without_rights() -> list[str]:
    """Root may look into every process: he who looks gives that right up, and who is looked at has no more than he."""
    if os.geteuid() != 0:
        return []
    if not may(SETPCAP):
        pytest.skip("needs to give up rights, which root is not allowed here")
    less = ["setpriv", "--bounding-set=-sys_ptrace,-perfmon,-sys_admin"]
    subprocess.run([*less, "true"], check=True)
    return less


def _wait_for(point: Path, agent: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not point.exists():
        assert time.monotonic() < deadline
        assert agent.poll() is None, agent.communicate()
        time.sleep(0.02)


def _may_be_looked_into(pid: int, less: list[str]) -> bool:
    looked = subprocess.run([*less, "cat", f"/proc/{pid}/environ"], capture_output=True, text=True, check=False)
    if looked.returncode:
        assert "Permission denied" in looked.stderr
    return looked.returncode == 0
