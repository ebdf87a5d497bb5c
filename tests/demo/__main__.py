"""``make demo``. Exit code 0 only when every claim held."""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.demo.guest_at_work import GuestAtWork
from tests.demo.narrator import DemoFailedError, Narrator, mib
from tests.end_to_end.pair import TENANT, Pair
from tests.lab.site import Lab

VM = "web01"
DELTAS = 3


def main() -> int:
    """Run the demo in a folder of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--disk-mib", type=int, default=256, help="size of the first disk")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="put the evidence there")
    options = parser.parse_args()
    narrator = Narrator()
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="keysapart-demo-") as folder:
            _Demo(Path(folder), options.disk_mib, narrator).run()
            if options.keep:
                for made in ("evidence.json", "evidence.html"):
                    shutil.copy(Path(folder) / made, options.keep / made)
    except Exception as error:
        narrator.close(f"The demo FAILED: {error}", good=False)
        if not isinstance(error, DemoFailedError):
            raise
        return 1
    narrator.close(
        f"It worked: {VM} came back byte for byte from the target alone, in {time.monotonic() - began:.0f} s.",
        good=True,
    )
    return 0


class _Demo:
    def __init__(self, folder: Path, disk_mib: int, narrator: Narrator) -> None:
        self._folder = folder
        self._disk_mib = disk_mib
        self._say = narrator
        self._images = folder / "images"
        self._exports = folder / "exports"
        for made in (self._images, self._exports):
            made.mkdir()

    def run(self) -> None:
        """All chapters."""
        self._say.chapter("Two sites on this machine: a vCenter with its KMS, and a target with its own")
        with Lab(self._folder / "lab", self._disk_mib) as lab:
            source_keys = lab.source_kms.list_keys()
            self._say.tell(f"source: vCenter {lab.vcenter.host}:{lab.vcenter.port}, KMS {lab.source_kms.endpoint}")
            self._say.tell(f"target: KMS {lab.kms.endpoint}, which trusts another authority altogether")
            for key in source_keys:
                self._say.tell(f"the source's KMS holds key {key.id} ({key.name}): the target must never see it")

            self._say.chapter("The target: make the appliance, let tenant acme in, serve")
            self._say.command("target-appliance", "--config", "appliance.toml", "init")
            self._say.command(
                "target-appliance", "--config", "appliance.toml", "tenants", "add", "acme", "--out", "agent"
            )
            self._say.command("target-appliance", "--config", "appliance.toml", "serve")
            with Pair(lab) as pair:
                reports = self._replicate(lab, pair)
                self._who_holds_what(lab, pair, source_keys)
                self._digest_names(pair)
                self._recover(lab, pair, reports)
                self._evidence(pair, source_keys)

    def _replicate(self, lab: Lab, pair: Pair) -> list[dict[str, Any]]:
        disks = [lab.guest(VM, disk.key) for disk in lab.machine(VM).disks]
        with GuestAtWork(disks) as guest:
            self._say.chapter(f"A first sync of {VM}, an encrypted VM whose guest goes on writing")
            self._preflight(pair)
            reports = [self._sync(pair)]
            self._say.check(reports[0]["kind"] == "full", "the first sync is a full one, and point 1 is committed")

            self._say.chapter("Delta syncs: only what changed crosses")
            reports += [self._sync(pair) for _ in range(DELTAS - 1)]
            self._say.tell(f"the guest wrote {guest.writes} times meanwhile")
        lab.image(VM, self._images)
        reports.append(self._sync(pair))
        self._say.tell("the guest rests now, and its disks were saved for the comparison at the end")
        for report in reports[1:]:
            part = report["bytes_sent"] / reports[0]["bytes_sent"]
            self._say.check(
                report["kind"] == "delta" and part < 0.25,
                f"point {report['point']}: a delta, {mib(report['bytes_sent'])} sent, {part:.1%} of the full",
            )
        self._say.check(not lab.control("snapshots", VM), "no snapshot is left on the VM")
        self._say.check(not lab.control("orphans"), "no disk is left attached to the agent's VM")
        return reports

    def _preflight(self, pair: Pair) -> None:
        self._say.command("source-agent", "--config", "agent.toml", "preflight", VM)
        outcome = pair.source("preflight", VM, "--json")
        self._say.check(outcome.code == 0 and outcome.json["ready"], f"{VM} can be replicated")

    def _sync(self, pair: Pair) -> dict[str, Any]:
        self._say.command("source-agent", "--config", "agent.toml", "sync", VM)
        report = pair.sync(VM)
        self._say.tell(
            f"{report['kind']}: read {mib(report['bytes_read'])}, sent {mib(report['bytes_sent'])},"
            f" stored {mib(report['stored_bytes'])} in {report['seconds']:.1f} s"
        )
        return report

    def _who_holds_what(self, lab: Lab, pair: Pair, source_keys: list[Any]) -> None:
        self._say.chapter("Who holds which key")
        keys = lab.kms.list_keys()
        for key in keys:
            self._say.tell(f"the target's KMS holds {key.id} ({key.name}), which wraps the data keys of acme's disks")
        held = b"".join(path.read_bytes() for path in sorted((lab.folder / "store").rglob("*.json")))
        held += b"".join(path.read_bytes() for path in (lab.folder / "appliance-state").rglob("*") if path.is_file())
        held += pair.log.read_bytes()
        self._say.check(
            bool(keys) and all(key.id.encode() in held for key in keys), "the target's records name its own KEK"
        )
        self._say.check(
            bool(source_keys) and not any(key.id.encode() in held for key in source_keys),
            "no record, catalog page or log line of the target names a key of the source",
        )

    def _digest_names(self, pair: Pair) -> None:
        self._say.chapter("For the auditor: the source digests what its keys are called")
        self._say.command("source-agent", "--config", "agent.toml", "evidence", VM, "--out", "sought.json")
        outcome = pair.source("evidence", VM, "--out", self._folder / "sought.json", "--json")
        self._say.check(outcome.code == 0, f"{outcome.json['key_ids']} key id and its provider, in digests")

    def _evidence(self, pair: Pair, source_keys: list[Any]) -> None:
        self._say.chapter("The target's evidence, signed and checked")
        self._say.command("target-appliance", "--config", "appliance.toml", "audit", "head", "--out", "head.json")
        head = pair.done("audit", "head", "--out", self._folder / "head.json")
        intact = pair.done("audit", "verify", "--head", self._folder / "head.json")["intact"]
        self._say.check(intact, f"the audit log's {head['sequence']} lines are what was written")
        report = self._folder / "evidence.json"
        words = ["evidence", TENANT, "--source", self._folder / "sought.json", "--also", pair.log, "--out", report]
        shown = [word.name if isinstance(word, Path) else word for word in words]
        self._say.command("target-appliance", "--config", "appliance.toml", *shown)
        told = pair.done(*words)
        self._say.check(
            told["checked"] and told["found"] == 0,
            f"{told['windows']} windows of all that the target holds compared with the source's digests: none fits",
        )
        planted = self._folder / "planted.txt"
        planted.write_text(f"a key of the source: {source_keys[0].id}")
        again = pair.done(*words[:-1], self._folder / "again.json", "--also", planted)
        self._say.check(again["found"] > 0, "and a planted key id is found: the search can find one")
        ca = pair.lab.folder / "appliance-state" / "authority" / "ca.crt"
        self._say.command("target-appliance", "evidence", "check", report.name, "--ca", ca.name)
        checked = pair.target("evidence", "check", report, "--ca", ca, "--json")
        self._say.check(checked.code == 0 and checked.json["authentic"], "the report is what the appliance signed")
        for risk in json.loads(report.read_text())["body"]["risks"]:
            self._say.tell(f"open risk, {risk['severity']}: {risk['what']}")

    def _recover(self, lab: Lab, pair: Pair, reports: list[dict[str, Any]]) -> None:
        self._say.chapter("The source site is lost: vCenter, disks and KMS")
        lab.control("source-site", "stop")
        (lab.folder / "disks").rename(self._folder / "lost-disks")
        self._say.check(pair.source("sync", VM, "--json").code != 0, "the source site does not answer any more")

        self._say.chapter("Verify and export from the target alone")
        replica, point = reports[-1]["replica"], reports[-1]["point"]
        for extra in (["--without-key"], []):
            self._say.command("target-appliance", "--config", "appliance.toml", "verify", VM, *extra)
            outcome = pair.target("verify", replica, "--json", *extra)
            how = "without any key: every stored byte" if extra else "with the key: every tag, digest and root"
            self._say.check(outcome.code == 0, f"all {point} points verify, {how}")
        for disk in lab.machine(VM).disks:
            out = self._exports / f"{disk.key}.raw"
            words = ["export", replica, "--point", point, "--disk", disk.key, "--format", "raw", "--out", out]
            self._say.command("target-appliance", "--config", "appliance.toml", *words[:-1], out.name)
            pair.done(*words)
            saved = self._images / f"{VM}-{disk.key}.raw"
            same = subprocess.run(
                ["qemu-img", "compare", "-f", "raw", "-F", "raw", saved, out],
                capture_output=True,
                text=True,
                check=False,
            )
            self._say.check(
                same.returncode == 0 and _sha256(saved) == _sha256(out),
                f"disk {disk.key}: {mib(out.stat().st_size)} equal the source's, by qemu-img and by SHA-256",
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
