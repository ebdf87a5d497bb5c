"""Each refusal through the real commands: one clear sentence, the documented exit code, nothing lost."""

import contextlib
import random
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from common.clock import SystemClock
from common.errors import EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_TRY_LATER, EXIT_USAGE
from common.ids import AgentId, TenantId
from target_appliance.identity.authority import Authority
from tests.end_to_end.gate import Gate, gated
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.mounts import may_mount, mounted, remount
from tests.end_to_end.pair import TENANT, Pair, run
from tests.end_to_end.refusing import away, ended, sentence, syncing, unharmed
from tests.lab.configs import TRUST_DOMAIN
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

VM = "plain01"
ROOMY_MIB, SMALL_MIB = 96, 20


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A VM with a point; every test leaves the pair as good as it found it."""
    with (
        Lab(tmp_path_factory.mktemp("refusals") / "lab", disk_mib=16) as lab,
        Pair(lab) as pair,
        Ledger(pair, VM) as made,
    ):
        made.sync()
        yield made


@pytest.fixture
def gate(ledger: Ledger) -> Iterator[Gate]:
    """Between the agent and the appliance."""
    with gated(ledger.pair.lab) as made:
        yield made


@contextlib.contextmanager
def agent_files(pair: Pair) -> Iterator[Path]:
    """The agent's certificate folder, put back as it was."""
    folder, kept = pair.folder / "agent", pair.folder / "agent-kept"
    shutil.copytree(folder, kept)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)


def other_appliance(pair: Pair, name: str) -> Path:
    """Configuration of an appliance of its own, made by ``init``, with a tenant of the same name."""
    folder = pair.folder / name
    folder.mkdir()
    text = pair.config.read_text().replace('"appliance-state"', f'"{name}/state"')
    config = pair.folder / f"{name}.toml"
    text = text.replace(f'enrollment = "127.0.0.1:{pair.lab.enrollment_port}"\n', "")
    config.write_text(text.replace('store_dir = "store"', f'store_dir = "{name}/store"'))
    for words in (("init",), ("tenants", "add", TENANT, "--out", folder / "agent")):
        assert run("target-appliance", config, *words).code == 0
    return config


# Certificates.


def test_wrong_ca(ledger: Ledger) -> None:
    other_appliance(ledger.pair, "other-ca")
    with unharmed(ledger), agent_files(ledger.pair) as folder:
        shutil.copy(ledger.pair.folder / "other-ca" / "agent" / "ca.crt", folder / "ca.crt")
        refused = ledger.pair.source("sync", VM)
        sentence(refused, EXIT_REFUSED, "127.0.0.1", "ca.crt", "does not vouch for", "check the address")


def test_foreign_certificate(ledger: Ledger) -> None:
    other_appliance(ledger.pair, "other-agent")
    with unharmed(ledger), agent_files(ledger.pair) as folder:
        for name in ("agent.crt", "agent.key"):
            shutil.copy(ledger.pair.folder / "other-agent" / "agent" / name, folder / name)
        refused = ledger.pair.source("sync", VM)
        sentence(refused, EXIT_REFUSED, "refuses this agent's certificate", "target-appliance agents add")


class TwoYearsAgo(SystemClock):
    """The clock of an authority that issued long ago."""

    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(days=2 * 365)


def test_expired_certificate(ledger: Ledger) -> None:
    authority = Authority.open(ledger.pair.folder / "appliance-state" / "authority", TRUST_DOMAIN, TwoYearsAgo())
    issued = authority.issue_agent(TenantId(TENANT), AgentId("0b8f5d53-1f57-4ec4-a4be-52b2ad0b4b52"))
    with unharmed(ledger), agent_files(ledger.pair) as folder:
        (folder / "agent.crt").write_bytes(issued.certificate_pem)
        (folder / "agent.key").write_bytes(issued.key_pem)
        refused = ledger.pair.source("sync", VM)
        sentence(refused, EXIT_REFUSED, "agent.crt expired on", "UTC", "agents add")


# Keys.


def test_kms_down(ledger: Ledger) -> None:
    lab = ledger.pair.lab
    with unharmed(ledger):
        lab.control("kms", "stop")
        try:
            refused = ledger.pair.source("sync", VM)
            sentence(refused, EXIT_TRY_LATER, "KMS", lab.kms.endpoint, "check that the KMIP server runs")
        finally:
            lab.control("kms", "start")


def test_kms_hangs(ledger: Ledger) -> None:
    lab = ledger.pair.lab
    with unharmed(ledger):
        lab.control("kms", "pause")
        try:
            refused = ledger.pair.source("sync", VM)
            sentence(refused, EXIT_TRY_LATER, "KMS", lab.kms.endpoint, "check that the KMIP server runs")
        finally:
            lab.control("kms", "resume")


@pytest.mark.parametrize("action", ["deactivate", "destroy"])
def test_key_out_of_use(pair: Pair, action: str) -> None:
    with Ledger(pair, VM) as ledger:
        ledger.sync()
        ledger.write()
    kek = next(key for key in pair.lab.control("kms", "list") if f"/{TENANT}/" in key["name"])
    before = _tree(pair.folder / "store")
    pair.lab.control("kms", action, kek["id"])

    refused = pair.source("sync", VM)
    sentence(refused, EXIT_REFUSED, f"key {kek['id']}", TENANT, "so nothing is accepted", "administrator")
    ledger.check_source()
    assert _tree(pair.folder / "store") == before, "something was accepted"
    # The points are as good as the key: their bytes can be checked without it, and opened no more.
    assert pair.done("verify", ledger.replica, "--without-key")["findings"] == []
    closed = pair.target("verify", ledger.replica)
    sentence(closed, EXIT_REFUSED, f"key {kek['id']}", "administrator")
    words = ("--point", "1", "--disk", "2000", "--format", "raw", "--out", pair.folder / "out.raw")
    closed = pair.target("export", ledger.replica, *words)
    sentence(closed, EXIT_REFUSED, f"key {kek['id']}", "administrator")
    assert not (pair.folder / "out.raw").exists()


def _tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# In the middle of a sync.


def test_target_gone_in_mid_sync(ledger: Ledger, gate: Gate) -> None:
    with unharmed(ledger), away(ledger.pair):
        with syncing(ledger, gate) as sync:
            assert ledger.pair.appliance is not None
            ledger.pair.appliance.kill()
            gate.release()
            refused = ended(sync)
        # Between the two stands a relay that takes connections for a target that is not there, as balancers do: whether
        # it is heard to hang up or not to answer is a matter of moments.
        sentence(refused, EXIT_TRY_LATER, f"127.0.0.1:{gate.port}", "target-appliance serves")
        ledger.check_source()


def test_target_not_there(ledger: Ledger) -> None:
    with unharmed(ledger), away(ledger.pair):
        assert ledger.pair.appliance is not None
        assert ledger.pair.appliance.stop() == 0
        refused = ledger.pair.source("sync", VM)
        sentence(refused, EXIT_TRY_LATER, f"127.0.0.1:{ledger.pair.lab.data_port}", "does not answer", "serves there")


def test_vcenter_gone_in_mid_sync(ledger: Ledger, gate: Gate) -> None:
    lab = ledger.pair.lab
    with unharmed(ledger, source_clean=False):
        with syncing(ledger, gate) as sync:
            lab.control("vcenter", "stop")
            try:
                gate.release()
                text = sentence(ended(sync), EXIT_TRY_LATER, f"127.0.0.1:{lab.vcenter.port}", "run the command again")
            finally:
                lab.control("vcenter", "start")
        assert f"of VM {VM} may remain" in text
        assert len(lab.control("orphans")) == 1, "the vCenter was not gone in the middle"


def test_vcenter_not_there(ledger: Ledger) -> None:
    lab = ledger.pair.lab
    with unharmed(ledger):
        lab.control("vcenter", "stop")
        try:
            refused = ledger.pair.source("sync", VM)
            sentence(refused, EXIT_TRY_LATER, "vCenter", str(lab.vcenter.port), "run the command again")
        finally:
            lab.control("vcenter", "start")


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for the store, of ROOMY_MIB."""
    store = tmp_path / "lab" / "store"
    store.mkdir(parents=True)
    if not may_mount():
        pytest.skip("a tmpfs cannot be mounted here, that takes the right to mount")
    with mounted(store, ROOMY_MIB):
        yield store


def test_store_full_in_mid_sync(small_store: Path, tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", disk_mib=16) as lab, Pair(lab) as pair, Ledger(pair, VM) as ledger:
        ledger.sync()
        used = shutil.disk_usage(small_store).used
        remount(small_store, f"size={SMALL_MIB}m")
        lab.guest(VM, 2000).write(0, random.Random(5).randbytes(16 << 20))
        for _ in range(2):
            refused = pair.source("sync", VM)
            sentence(
                refused,
                EXIT_TRY_LATER,
                "the target's store is full",
                "No space left",
                "free space",
                "committed points are untouched",
            )
            ledger.check()
            ledger.check_source()
            assert shutil.disk_usage(small_store).used <= used + (64 << 10), "what was staged takes room still"
        remount(small_store, f"size={ROOMY_MIB}m")
        assert ledger.sync()["kind"] == "delta"
        ledger.check()
        ledger.check_source()


# VMs that cannot be protected.


@pytest.mark.parametrize(
    ("vm", "code", "words"),
    [
        ("nosuch01", EXIT_NOT_FOUND, ("nosuch01", "source-agent inventory")),
        ("rdm01", EXIT_REFUSED, ("rdm01", "raw device mapping", "key 2001", "virtual disk")),
        ("indep01", EXIT_REFUSED, ("indep01", "independent", "key 2001", "dependent")),
        ("legacy01", EXIT_REFUSED, ("legacy01", "change tracking needs 7", "upgrade")),
        ("snapped01", EXIT_REFUSED, ("snapped01", "before the upgrade", "delete the VM's snapshots")),
    ],
)
def test_vm_that_cannot_be_protected(ledger: Ledger, vm: str, code: int, words: tuple[str, ...]) -> None:
    lab = ledger.pair.lab
    known = {machine.name for machine in lab.machines}
    before = lab.control("snapshots", vm) if vm in known else None
    refused = ledger.pair.source("sync", vm)
    sentence(refused, code, *words)
    if vm in known:
        assert lab.control("snapshots", vm) == before
    ledger.check()
    ledger.check_source()


# Configuration and ports.


@pytest.mark.parametrize(
    ("command", "words"),
    [("source-agent", ("sync", VM)), ("target-appliance", ("serve",)), ("target-appliance", ("init",))],
)
def test_unknown_key_in_the_configuration(ledger: Ledger, command: str, words: tuple[str, ...]) -> None:
    pair = ledger.pair
    config = pair.folder / "misspelt.toml"
    good = pair.lab.agent_toml if command == "source-agent" else pair.config
    config.write_text(good.read_text() + '\n[target_]\nadress = "127.0.0.1:1"\n')
    refused = run(command, config, *words)
    sentence(refused, EXIT_USAGE, str(config), "unknown key target_", "example.toml")
    ledger.check()


@pytest.mark.parametrize("listener", ["data", "health"])
def test_port_in_use(ledger: Ledger, listener: str) -> None:
    pair = ledger.pair
    config = other_appliance(pair, f"other-{listener}")
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port, spare = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        ports = {pair.lab.data_port: spare, pair.lab.health_port: port}
        if listener == "data":
            ports = {pair.lab.data_port: port, pair.lab.health_port: spare}
        text = config.read_text()
        for old, new in ports.items():
            text = text.replace(f'"127.0.0.1:{old}"', f'"127.0.0.1:{new}"')
        config.write_text(text)
        refused = run("target-appliance", config, "serve")
        sentence(refused, EXIT_TRY_LATER, f"127.0.0.1:{port}", "in use", f"listen.{listener}")


def test_second_appliance_harms_no_sync_of_the_first(ledger: Ledger, gate: Gate) -> None:
    pair = ledger.pair
    with syncing(ledger, gate, "--json") as sync:
        content = ledger.content()
        refused = pair.target("serve")
        sentence(refused, EXIT_TRY_LATER, "another target-appliance process", "appliance-state", "end that process")
        gate.release()
        outcome = ended(sync)
    assert outcome.code == 0, outcome
    ledger.settle(content, outcome.json["point"])
    ledger.check()


# Two agents.


def test_second_process_of_the_same_agent(ledger: Ledger, gate: Gate) -> None:
    pair = ledger.pair
    with syncing(ledger, gate, "--json") as sync:
        content = ledger.content()
        refused = pair.source("sync", VM)
        sentence(refused, EXIT_TRY_LATER, VM, f"pid {sync.pid}", "wait until it is done")
        gate.release()
        outcome = ended(sync)
    assert outcome.code == 0, outcome
    ledger.settle(content, outcome.json["point"])
    ledger.check()
    ledger.check_source()


def test_second_agent_of_the_tenant(ledger: Ledger, gate: Gate) -> None:
    pair = ledger.pair
    pair.done("tenants", "add", TENANT, "--out", pair.folder / "agent2")
    text = pair.lab.agent_toml.read_text().replace('"agent-state"', '"agent2-state"').replace('"agent/', '"agent2/')
    config = pair.folder / "agent2.toml"
    config.write_text(text.replace(str(gate.port), str(pair.lab.data_port)))
    with syncing(ledger, gate, "--json") as sync:
        content = ledger.content()
        refused = run("source-agent", config, "sync", VM)
        sentence(refused, EXIT_TRY_LATER, VM, f"agent {_agent(pair)} is writing", "one agent only")
        gate.release()
        outcome = ended(sync)
    assert outcome.code == 0, outcome
    ledger.settle(content, outcome.json["point"])
    ledger.check()
    ledger.check_source()
    # Once the first has ended, the second may.
    ledger.write()
    content = ledger.content()
    later = run("source-agent", config, "sync", VM, "--json")
    assert later.code == 0, later
    ledger.settle(content, later.json["point"])
    ledger.check()


def _agent(pair: Pair) -> str:
    """The id of the pair's agent, which its certificate states."""
    certificate = x509.load_pem_x509_certificate((pair.folder / "agent" / "agent.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uri.rpartition("/")[2]
