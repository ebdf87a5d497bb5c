"""Certificates of agent, server and authority, and the KEK, change while syncs run: none fails, no point changes.

One daemon syncs all VMs against one appliance, neither of which is ever started anew. In each round the syncs of all
VMs are held in their middle, something is rotated, and they go on.
"""

import contextlib
import filecmp
import hashlib
import os
import random
import re
import ssl
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from common.clock import SystemClock
from common.errors import EXIT_REFUSED
from common.grain import GRAIN_BYTES
from common.private_file import write_file
from common.tls import TlsFiles
from source_agent.daemon import door
from source_agent.pairing import files as pair_files
from source_agent.pairing.enroll import Paired
from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import LEAF_LIFE, make_server
from tests.end_to_end.gate_for_each import gated_each
from tests.end_to_end.inside import inside
from tests.end_to_end.pair import TENANT, WITHOUT_PAUSES, Appliance, Pair
from tests.end_to_end.test_run import running
from tests.end_to_end.waiting import until
from tests.fakes.clock import ManualClock
from tests.lab.configs import TRUST_DOMAIN
from tests.lab.inventory import instance_uuid
from tests.lab.site import Lab

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("uncovered")]

VMS = ("web01", "plain01", "many001", "many002", "many003")
CYCLES = 4
"""Of all that rotates, in five rounds each: 100 syncs, since every VM has one in every round."""
WRITTEN = 2 * GRAIN_BYTES
"""Bytes that change on each disk between two syncs; they do not compress."""
HELD_AFTER = GRAIN_BYTES + (GRAIN_BYTES >> 1)
"""Bytes of a connection's after which it is held: the handshake and one grain of the two."""
LONG_AGO = timedelta(days=275)
"""Certificates of then are due."""
AT_ONCE = (f"syncs = {len(VMS)}", f"per_host = {len(VMS)}", f"per_datastore = {len(VMS)}")
SYNCS = r'keysapart_agent_syncs_total{kind="(.*)",result="(.*)"}'


class Prompt(Pair):
    """Its appliance looks at once at what changed."""

    def serve(self, env: dict[str, str] | None = None, command: list[Any] | None = None) -> Appliance:
        return super().serve(env, command or [*WITHOUT_PAUSES, "target-appliance", "--config", self.config, "serve"])


class Rotating:
    """What the test does to the pair while its daemon runs."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.folder = pair.folder / "appliance-state" / "authority"
        self.store = pair.folder / "store" / "tenants" / TENANT / "replicas"
        self.issuer = self.authority().held
        self.digests: dict[Path, str] = {}
        self.held: list[str] = []
        self._rng = random.Random(4)

    def authority(self) -> Authority:
        return Authority.open(self.folder, TRUST_DOMAIN, SystemClock())

    def write(self) -> None:
        """The guests write to each disk."""
        for guest in (self.pair.lab.guest(vm, 2000) for vm in VMS):
            place = self._rng.randrange(0, guest.size - WRITTEN + 1, GRAIN_BYTES)
            guest.write(place, self._rng.randbytes(WRITTEN))

    def open_syncs(self) -> list[str]:
        """The syncs of which the appliance has taken a grain, and that are no points yet."""
        found = []
        for path in self.store.glob("*/staging/*/disk-2000.vmdk"):
            with contextlib.suppress(FileNotFoundError):  # it has just become a point
                if path.stat().st_size > GRAIN_BYTES:
                    found.append(path.parent.name)
        return sorted(found)

    def all_open(self) -> list[str]:
        """The same when there is one of each VM, which it waits for."""
        until("the appliance has a grain of each", lambda: len(self.open_syncs()) == len(VMS))
        return self.open_syncs()

    def remember(self) -> None:
        """Points that were there before are what they were; the others are noted."""
        found = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.store.glob("*/points/*/*.vmdk")}
        assert self.digests.items() <= found.items()
        self.digests = found

    # The rotations, each done when this returns.

    def authority_rotates(self) -> None:
        """And with it the server's certificate."""
        self.issuer = self.authority().held
        before = self.shown()
        assert len(self.pair.done("ca", "rotate")["authorities"]) == 2
        refused = self.pair.target("ca", "retire", "--json")
        assert refused.code == EXIT_REFUSED, "the agent has only the earlier one's"
        assert self.shown() != before

    def agent_renews(self) -> None:
        """Its certificate is due, and by the earlier authority."""
        files = TlsFiles(*(self.pair.folder / "agent" / name for name in ("ca.crt", "agent.crt", "agent.key")))
        name = self.agent_certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value[0]
        then = Authority(self.folder, TRUST_DOMAIN, self.issuer, ManualClock(SystemClock().now() - LONG_AGO))
        due = then.issue_agent(TENANT, str(name.value).rpartition("/")[2])
        pair_files.write(files, Paired(due.key_pem, due.certificate_pem, files.ca.read_bytes()))
        until("the agent has renewed", lambda: self.agent_certificate.serial_number != due.certificate.serial_number)
        assert self.agent_certificate.not_valid_after_utc > SystemClock().now() + LEAF_LIFE - timedelta(hours=1)
        self.agent_certificate.verify_directly_issued_by(self.authority().held.ca.certificate)
        assert self.pair.done("ca", "status")["unrenewed"] == []

    def kek_rotates(self) -> None:
        assert self.pair.done("keys", "rotate-kek", TENANT)["wrapped"] > 0

    def server_renews(self) -> None:
        """Its certificate is due, and the appliance looks."""
        before = self.shown()
        due = make_server(self.authority().held.ca, ["localhost", "127.0.0.1"], SystemClock().now() - LONG_AGO)
        write_file(self.folder / "server.pem", due.certificate_pem + due.key_pem, replace=True)
        os.utime(self.folder / "ca.pem")
        assert self.shown() not in {before, due.certificate_pem.decode()}

    def old_ones_go(self) -> None:
        """The earlier authority, and at the KMS all KEKs but one."""
        assert len(self.pair.done("ca", "retire")["authorities"]) == 1
        done = self.pair.done("keys", "rotate-kek", TENANT, "--destroy-old")
        assert len(done["destroyed"]) == 2
        assert done["retired"] == []

    @property
    def agent_certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.pair.folder / "agent" / "agent.crt").read_bytes())

    def shown(self) -> str:
        """The certificate that the appliance shows to who connects now."""
        return ssl.get_server_certificate(("127.0.0.1", self.pair.lab.data_port))


def points(agent: Any) -> list[int | None]:
    """The newest of each VM."""
    return [row["point"] for row in door.ask(agent.pair.folder / "agent-state")["vms"]]


def ended(agent: Any) -> dict[tuple[str, str], int]:
    """How many syncs ended so, by kind and result."""
    told = {re.fullmatch(SYNCS, name): count for name, count in agent.metrics().items()}
    return {(name[1], name[2]): int(float(count)) for name, count in told.items() if name}


def test_everything_rotates_during_a_hundred_syncs(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", disk_mib=16, more=3) as lab, Prompt(lab) as pair, gated_each(lab) as gate:
        made = Rotating(pair)
        steps = (
            made.authority_rotates,
            made.agent_renews,
            made.kek_rotates,
            made.server_renews,
            made.old_ones_go,
        )
        agents = {"vms": '"web01", "plain01", "many*"', "rpo": "3s", "schedule": "\n".join(AT_ONCE)}
        with running(pair, command=(*WITHOUT_PAUSES, "source-agent"), **agents) as agent:
            until("each VM has a point", lambda: len(points(agent)) == len(VMS) and all(points(agent)), 60)
            for step in steps * CYCLES:
                made.remember()
                gate.hold_each_after(HELD_AFTER)
                made.write()
                gate.wait_held(len(VMS))
                held, before = made.all_open(), points(agent)
                step()
                assert made.open_syncs() == held, "they are open, and the same, before and after"
                assert points(agent) == before
                gate.release()
                until("they are over", lambda held=held: not set(held) & set(made.open_syncs()), 60)
                made.held += held
            until("the daemon has heard of all", lambda: sum(ended(agent).values()) >= len(VMS) + len(made.held))
            assert set(ended(agent)) == {("full", "committed"), ("delta", "committed")}
            assert ended(agent)["full", "committed"] == len(VMS), "none but the first"
            assert agent.stop() == 0
        made.remember()
        assert len(set(made.held)) == len(made.held) == 100
        told = [(one["what"], one) for one in pair.done("audit", "show")["events"]]
        syncs = {one["facts"]["sync"] for what, one in told if what == "sync-committed"}
        assert syncs >= set(made.held)
        count = Counter(what for what, _ in told)
        assert not count.keys() & {"sync-ended", "sync-resumed", "refused"}
        assert count["certificate-renewed"] == CYCLES
        assert count["kek-destroyed"] == 2 * CYCLES * 2, "each is told before and after"
        content_holds(pair, tmp_path)
        assert pair.appliance is not None
        assert pair.appliance.process.poll() is None, "it was never started anew"
        assert "Traceback" not in pair.log.read_text() + agent.log.read_text()


def content_holds(pair: Pair, folder: Path) -> None:
    """All points verify, and the newest are what the guests have."""
    with inside(pair) as vault:
        for vm in VMS:
            replica = instance_uuid(vm)
            assert vault.verify(replica, with_key=True).findings == ()
            newest = pair.done("points", replica)["points"][-1]["point"]
            for key, image in pair.lab.image(vm, folder / "images").items():
                (raw,) = vault.export(replica, key, newest, "raw", folder / f"{vm}-{key}.raw")
                assert filecmp.cmp(image, raw, shallow=False)
