"""A site's vCenter: the Go program of ``vcenter/``, started, and told to misbehave through its door."""

import hashlib
import json
import secrets
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.lab import build
from tests.lab.child import Child
from tests.lab.errors import ControlError
from tests.lab.inventory import MachineSpec, instance_uuid
from tests.lab.pki import Authority, write_private

USER = "agent@vsphere.local"
KEY_PROVIDER = "source-site-kms"


class VCenter:
    """A vCenter on a fixed port.

    Args:
        folder: the lab's folder.
        port: loopback port held by the caller.
        data_port: of its hosts, which have loopback addresses of their own; held by the caller, too.
        key_provider: name of the standard one.
    """

    def __init__(self, folder: Path, port: int, data_port: int, key_provider: str = KEY_PROVIDER) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self.data_port = data_port
        self.user = USER
        self._key_provider = key_provider
        self.password = secrets.token_urlsafe(16)
        self.ca_file = folder / "vcenter-ca.crt"
        self.password_file = folder / "vcenter-password"
        self.snapshots = folder / "vcenter" / "snapshots"
        self.machines: list[dict[str, Any]] = []
        self.control_url = ""
        self._folder = folder
        self._child: Child | None = None
        write_private(self.password_file, self.password.encode())
        self._authority = Authority("vCenter authority", self.ca_file)
        self._server = self._authority.issue_server(folder / "vcenter" / "server")

    @property
    def thumbprint(self) -> str:
        """SHA-1 of its certificate, as vendors' tools write it."""
        der = ssl.PEM_cert_to_DER_cert(self._server.certificate_file.read_text())
        return ":".join(f"{byte:02X}" for byte in hashlib.sha1(der).digest())

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._child.pid if self._child else None

    def launch(
        self,
        machines: tuple[MachineSpec, ...],
        sizes: dict[str, int],
        keys: dict[str, str],
        kms: str,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Start; disk sizes come by ``vm/key``, key ids by VM, and ``kms`` is the endpoint of the site's key server.

        ``more`` is of vcenter/config.go.
        """
        scratch = self._folder / "vcenter" / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        self.snapshots.mkdir(parents=True, exist_ok=True)
        for stale in self.snapshots.iterdir():
            stale.unlink()
        config = {
            "listen": f"{self.host}:{self.port}",
            "dataPort": self.data_port,
            "user": self.user,
            "password": self.password,
            "certificate": str(self._server.certificate_file),
            "key": str(self._server.key_file),
            "disks": str(self._folder / "disks"),
            "devices": str(self._folder / "devices"),
            "scratch": str(scratch),
            "snapshots": str(self.snapshots),
            "keyProvider": self._key_provider,
            "keyServer": kms,
            "machines": [_machine(spec, sizes, keys) for spec in machines],
            **(more or {}),
        }
        # Through a file, since arguments are for everybody to see and this holds the password.
        path = self._folder / "vcenter" / "config.json"
        write_private(path, json.dumps(config, indent=1).encode())
        self._child = Child([str(build.binary()), str(path)], self._folder / "vcenter" / "vcenter.log")

    def wait_ready(self) -> None:
        """Wait until it serves."""
        assert self._child is not None
        told = json.loads(self._child.first_line())
        self.control_url, self.machines = told["control"], told["machines"]

    def order(self, command: str, **arguments: Any) -> Any:
        """Give an order through the control door.

        Raises:
            ControlError: it is refused.
        """
        body = json.dumps(arguments).encode()
        request = urllib.request.Request(f"{self.control_url}/{command}", data=body, method="POST")  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            raise ControlError(refused.read().decode().strip()) from None

    def show_certificate(self, days: int) -> None:
        """Serve with a certificate that lasts ``days``, or expired that many days ago; the authority stays."""
        base = self._folder / "vcenter" / f"server{days}"
        issued = self._authority.issue_server(base, days=days)
        self.order("certificate", certificate=str(issued.certificate_file), key=str(issued.key_file))

    def stop(self) -> None:
        """Refuse connections and cut those there are; the inventory is kept."""
        self.order("stop")

    def start(self) -> None:
        """Answer again."""
        self.order("start")

    def close(self) -> None:
        """End the program."""
        if self._child is not None:
            self._child.stop()
            self._child = None


def _machine(spec: MachineSpec, sizes: dict[str, int], keys: dict[str, str]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "instanceUuid": instance_uuid(spec.name),
        "keyId": keys.get(spec.name, ""),
        "hardware": spec.hardware,
        "tracking": spec.tracking,
        "agent": spec.agent,
        "controllers": spec.controllers,
        "snapshot": spec.snapshot,
        "disks": [{"key": d.key, "bytes": sizes[f"{spec.name}/{d.key}"], "kind": d.kind} for d in spec.disks],
    }
