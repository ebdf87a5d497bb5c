"""Over TCP: nothing without TLS, nobody but operators of the tenant, as long as they are let in."""

import contextlib
import shutil
import ssl
import struct
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.ids import AgentId, PointNumber, TenantId, new_sync_id
from target_appliance.audit.log import AuditLog
from target_appliance.audit.recorder import Recorder
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.register import agent_row
from target_appliance.identity.authn import identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.names import Role
from target_appliance.present.callers import Operators, Shown
from target_appliance.present.listen import tcp_port
from target_appliance.present.live import live
from tests.fakes.nbd_client import (
    ABORT,
    ACK,
    EXPORT_NAME,
    GO,
    LIST,
    POLICY,
    STARTTLS,
    STRUCTURED,
    TLS_REQUIRED,
    NbdClient,
    string,
)
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT
from tests.unit.target_appliance.present.conftest import SIZE, View

RIVAL = TenantId("rival")


@dataclass
class Site:
    """An appliance's authority, catalog and audit log, and a view at a port."""

    folder: Path
    authority: Authority
    catalog: Catalog
    address: tuple[str, int]
    view: View

    def issue(self, name, tenant=TENANT, role=Role.OPERATOR):
        """Files as libnbd and qemu want them: a folder of its own, and who it is."""
        agent = AgentId(new_sync_id())
        issued = self.authority.issue_agent(tenant, agent, role)
        identity = identify(issued.certificate_pem, self.authority.trust, SystemClock().now())
        self.catalog.put_agent(agent_row(identity, issued.certificate_pem))
        folder = self.folder / name
        folder.mkdir()
        (folder / "ca-cert.pem").write_bytes(self.authority.held.bundle_pem)
        (folder / "client-cert.pem").write_bytes(issued.certificate_pem)
        (folder / "client-key.pem").write_bytes(issued.key_pem)
        return folder, agent

    def client(self, folder):
        """A client that has asked for TLS and gone through it, with the certificate in ``folder``; None for none."""
        client = NbdClient(self.address)
        assert client.option(STARTTLS) == [(ACK, b"")]
        context = ssl.create_default_context(cadata=self.authority.ca_pem.decode())
        if folder is not None:
            context.load_cert_chain(folder / "client-cert.pem", folder / "client-key.pem")
        client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
        return client

    def told(self):
        """The audit log."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("audit/*")))


@contextmanager
def site_of(world, folder):
    clock = SystemClock()
    authority = Authority.create(folder / "authority", "keysapart.lab", clock)
    recorder = Recorder(AuditLog(folder / "audit", clock), clock)
    with Catalog.open(f"sqlite:///{folder / 'catalog'}", clock) as catalog, tcp_port("127.0.0.1:0") as listener:
        for tenant in (TENANT, RIVAL):
            catalog.add_tenant(tenant)
        shown = Shown(TENANT, REPLICA, PointNumber(1))
        door = Operators(shown, authority, ["localhost"], catalog.admit, clock, recorder)
        with live(world.vault, shown, (DISK, OTHER_DISK), listener, door, clock) as view:
            yield Site(folder, authority, catalog, listener.getsockname(), View(view, ""))


@pytest.fixture
def site(world, tmp_path):
    with site_of(world, tmp_path) as site:
        yield site


def refused(client):
    """Whether nothing can be read: the server hangs up, in TLS 1.3 with the first answer."""
    try:
        client.option(LIST)
    except (EOFError, ConnectionError, ssl.SSLError):
        return True
    finally:
        client.sock.close()
    return False


@pytest.mark.parametrize("option", [LIST, STRUCTURED, GO, 99])
def test_nothing_is_answered_in_the_clear(site, option):
    with NbdClient(site.address) as client:
        assert client.option(option, string("disk-2000") + b"\0\0") == [(TLS_REQUIRED, b"")]
        assert client.option(ABORT) == [(ACK, b"")]
        assert client.gone()


def test_an_export_named_in_the_clear_ends_the_connection(site):
    with NbdClient(site.address) as client:
        client.sock.sendall(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 9) + b"disk-2000")
        assert client.gone()


def test_what_a_meddler_sends_along_in_the_clear_is_not_taken_for_the_clients(site):
    with NbdClient(site.address) as client:
        client.sock.sendall(b"IHAVEOPT" + struct.pack(">II", STARTTLS, 0) + b"IHAVEOPT" + struct.pack(">II", LIST, 0))
        client.take(20)
        rest = b""
        with contextlib.suppress(ConnectionError):
            while data := client.sock.recv(4096):
                rest += data
    assert rest[:1] in {b"", b"\x15"}, "neither the end, nor a TLS alert"


def test_an_operator_reads_and_is_told(site, world):
    folder, agent = site.issue("operator")
    with site.client(folder) as client:
        assert client.option(STARTTLS) == [(POLICY, b"")]
        assert client.go("disk-2000") == SIZE
        assert client.read(0, SIZE) == world.image(1)
    told = site.told()
    assert '"disk-read"' in told
    assert agent in told
    assert "disk-2000" in told


@pytest.mark.parametrize(
    ("tenant", "role"), [(TENANT, Role.AGENT), (RIVAL, Role.OPERATOR), (RIVAL, Role.AGENT), (None, None)]
)
def test_others_are_not_let_in(site, tenant, role):
    folder = None if tenant is None else site.issue("other", tenant, role)[0]
    assert refused(site.client(folder))
    assert ('"refused"' in site.told()) is (tenant is not None)


def test_a_stranger_with_an_authority_of_its_own(site, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    foreign = Authority.create(tmp_path / "elsewhere" / "authority", "keysapart.lab", SystemClock())
    issued = foreign.issue_agent(TENANT, AgentId(new_sync_id()), Role.OPERATOR)
    (tmp_path / "client-cert.pem").write_bytes(issued.certificate_pem)
    (tmp_path / "client-key.pem").write_bytes(issued.key_pem)
    assert refused(site.client(tmp_path))


def test_an_old_tls_is_refused(site):
    folder, _ = site.issue("operator")
    with NbdClient(site.address) as client:
        client.option(STARTTLS)
        context = ssl.create_default_context(cadata=site.authority.ca_pem.decode())
        context.load_cert_chain(folder / "client-cert.pem", folder / "client-key.pem")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        client.sock = context.wrap_socket(client.sock, server_hostname="localhost", do_handshake_on_connect=False)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            client.sock.do_handshake()


def test_a_revoked_operator_is_cut(site, world, monkeypatch):
    monkeypatch.setattr("target_appliance.server.standing.ASK_SECONDS", 0.0)
    folder, agent = site.issue("operator")
    other, _ = site.issue("other")
    with site.client(folder) as client, site.client(folder) as idle, site.client(other) as neighbour:
        for one in (client, idle, neighbour):
            one.go("disk-2000")
        site.catalog.revoke_agent(agent)
        client.send(0, 0, 512)
        assert client.gone()
        site.view.clients.require()
        assert idle.gone()
        assert neighbour.read(0, SIZE) == world.image(1)
    assert refused(site.client(folder))


def test_a_suspended_tenant_is_not_let_in(site):
    folder, _ = site.issue("operator")
    row = site.catalog.tenant(TENANT)
    site.catalog.put_tenant(type(row)(row.tenant, row.limits, suspended=1))
    assert refused(site.client(folder))


def test_the_end_sends_nothing_in_the_clear(site):
    folder, _ = site.issue("operator")
    with site.client(folder) as client:
        client.go("disk-2000")
        site.view.clients.close()
        assert client.gone()


def done(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True, timeout=120).stdout


def test_libnbd_and_qemu_come_through_tls(site, world, tmp_path):
    folder, _ = site.issue("operator")
    port = site.address[1]
    uri = f"nbds://localhost:{port}/disk-2000?tls-certificates={folder}"
    assert f"export-size: {SIZE}" in done("nbdinfo", uri)
    done("nbdcopy", uri, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == world.image(1)
    done(
        *("qemu-img", "compare", "--object", f"tls-creds-x509,id=tls,endpoint=client,dir={folder}", "--image-opts"),
        f"driver=nbd,host=localhost,port={port},export=disk-2000,tls-creds=tls",
        f"driver=raw,file.driver=file,file.filename={tmp_path / 'copy'}",
    )
    shutil.rmtree(folder)
