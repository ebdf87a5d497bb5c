"""Certificates of agent, server and authority change while syncs run: none fails, and no byte of a point changes."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from common.clock import SystemClock
from common.errors import EXIT_REFUSED
from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import LEAF_LIFE
from tests.end_to_end.pair import TENANT, Pair
from tests.fakes.clock import ManualClock
from tests.lab.configs import TRUST_DOMAIN
from tests.lab.site import Lab

pytestmark = pytest.mark.lab
VM = "plain01"
SYNCS = 10
"""At least; each step is taken while one runs. The bar asks for 100: raise it here and wait."""


class Rotated:
    """The pair, with what the test does to it."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.made = 0
        self.digests: dict[Path, str] = {}
        self.folder = pair.folder / "appliance-state" / "authority"
        self.first = Authority.open(self.folder, TRUST_DOMAIN, SystemClock()).held

    def syncing(self, *commands: tuple[str, ...]) -> None:
        """A sync during which ``target-appliance`` commands run; it must succeed."""
        self.pair.lab.guest(VM, 2000).write((self.made % 64) << 16, self.made.to_bytes(2, "big") * (1 << 15))
        process = self.pair.start_source("sync", VM, "--json")
        for words in commands:
            self.pair.done(*words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, (out, err, self.pair.log.read_text()[-2000:])
        self.made += 1
        self.remember()

    def remember(self) -> None:
        """Points that were there before are what they were."""
        for path in sorted((self.pair.folder / "store").glob("tenants/*/replicas/*/points/*/*.vmdk")):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert self.digests.setdefault(path, digest) == digest, path

    def make_due(self) -> None:
        """Give the agent a certificate that the first authority issued to it nine months ago."""
        then = Authority(self.folder, TRUST_DOMAIN, self.first, ManualClock(SystemClock().now() - timedelta(days=275)))
        issued = then.issue_agent(TENANT, self.agent)
        (self.pair.folder / "agent" / "agent.crt").write_bytes(issued.certificate_pem)
        (self.pair.folder / "agent" / "agent.key").write_bytes(issued.key_pem)

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.pair.folder / "agent" / "agent.crt").read_bytes())

    @property
    def agent(self) -> str:
        names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return str(names[0].value).rpartition("/")[2]

    def fresh(self) -> bool:
        """Whether the agent's certificate was just renewed."""
        return self.certificate.not_valid_after_utc - SystemClock().now() > LEAF_LIFE - timedelta(hours=1)


def test_all_certificates_change_while_syncs_run(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", disk_mib=16) as lab, Pair(lab, kms="embedded") as pair:
        made = Rotated(pair)
        made.syncing()
        made.make_due()
        assert not made.fresh()
        made.syncing()
        assert made.fresh(), "the agent renewed before it synced"
        before = pair.done("ca", "status")

        made.syncing(("ca", "rotate"))
        made.syncing()  # an agent that knows only the old authority
        status = pair.done("ca", "status")
        assert len(status["authorities"]) == 2
        assert status["server"]["sha256"] != before["server"]["sha256"]
        assert status["unrenewed"] == [made.agent]
        refused = pair.target("ca", "retire", "--json")
        assert refused.code == EXIT_REFUSED
        assert made.agent in refused.error["message"]

        # The agent renews: its certificate is the new authority's, and it is told of both.
        made.make_due()
        made.syncing()
        assert made.fresh()
        assert len(x509.load_pem_x509_certificates((pair.folder / "agent" / "ca.crt").read_bytes())) == 2
        assert pair.done("ca", "status")["unrenewed"] == []

        made.syncing(("ca", "retire"))
        assert len(pair.done("ca", "status")["authorities"]) == 1
        made.syncing(("ca", "rotate"))
        while made.made < SYNCS:
            made.syncing()
        replica = pair.done("replicas")["replicas"][0]["replica"]
        assert pair.done("verify", replica)
        assert pair.appliance is not None
        assert pair.appliance.process.poll() is None, "it was never started anew"
        assert "Traceback" not in pair.log.read_text()
