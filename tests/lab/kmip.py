"""One site's key server, and what an operator does with its keys.

``KmipSite`` owns an authority of its own, so that a client of one site is a stranger at the other.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmip.core import enums
from kmip.pie.client import ProxyKmipClient
from kmip.pie.exceptions import KmipOperationFailure

from tests.lab import ports
from tests.lab.child import Child
from tests.lab.pki import LOOPBACK, Authority
from tests.lab.started import Started


@dataclass(frozen=True, slots=True)
class Key:
    """A key at the server; ``state`` in lower case, as ``active``."""

    id: str
    name: str
    state: str


class KmipSite(Started):
    """A key server with its authority, its client certificate and its keys, all in one folder.

    Usable as a context manager, which starts it; ``stop`` and ``start`` keep port, certificates and keys.

    Args:
        folder: made when missing; gets ca.crt, server.crt, client.crt and their keys.
        name: for certificates.
        port: loopback port held by the caller; None reserves one until ``close``.
        server_names: what the server's certificate is valid for.
        idle_seconds: idle connections are cut after so long.
        days: how long the server's certificate lasts; negative for one that has expired.
    """

    def __init__(  # noqa: PLR0917  what a test may want otherwise
        self,
        folder: Path,
        name: str = "target",
        port: int | None = None,
        server_names: tuple[str, ...] = LOOPBACK,
        idle_seconds: float = 30.0,
        days: int = 365,
    ) -> None:
        self._held = contextlib.ExitStack()
        self._folder = folder
        self._idle_seconds = idle_seconds
        self._child: Child | None = None
        self.port = port if port is not None else self._held.enter_context(ports.reserved(1))[0]
        self.server_name = "localhost"
        self.authority = Authority(f"{name} site KMS authority", folder / "ca.crt")
        self.ca_file = self.authority.certificate_file
        self._server = self.authority.issue_server(folder / "server", server_names, days)
        self._client = self.authority.issue_client(folder / "client", f"{name}-appliance")
        self.certificate_file = self._client.certificate_file
        self.key_file = self._client.key_file

    @property
    def endpoint(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start and wait until it serves; harmless when it runs."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start without waiting, so that several programs come up side by side."""
        if self._child is not None:
            return
        command = [sys.executable, "-m", "tests.lab.kmip_server", "--port", str(self.port), "--ca", str(self.ca_file)]
        command += ["--certificate", str(self._server.certificate_file), "--key", str(self._server.key_file)]
        command += ["--database", str(self._folder / "keys.sqlite"), "--idle-seconds", str(self._idle_seconds)]
        self._child = Child(command, self._folder / "server.log", cwd=_REPOSITORY)

    def wait_ready(self) -> None:
        """Wait until a launched server serves."""
        assert self._child is not None
        self._child.first_line()

    def stop(self) -> None:
        """Stop: connections are refused from here on, keys are kept."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def pause(self) -> None:
        """Hang: connections are taken, and nothing is answered."""
        assert self._child is not None
        self._child.pause()

    def resume(self) -> None:
        """Answer again."""
        assert self._child is not None
        self._child.resume()

    def close(self) -> None:
        """Stop, and give the port back."""
        self.stop()
        self._held.close()

    def create_key(self, name: str) -> str:
        """Make and activate a 256-bit AES key; returns its id."""
        with self._connection() as client:
            made: str = client.create(enums.CryptographicAlgorithm.AES, 256, name=name)
            client.activate(made)
            return made

    def list_keys(self) -> list[Key]:
        """All keys of the site's client, by id."""
        with self._connection() as client:
            return sorted((self._describe(client, key) for key in client.locate()), key=lambda key: int(key.id))

    def state(self, key: str) -> str:
        """State of one key, ``absent`` when the server does not know it."""
        try:
            with self._connection() as client:
                return self._describe(client, key).state
        except KmipOperationFailure as refused:
            if refused.reason == enums.ResultReason.ITEM_NOT_FOUND:
                return "absent"
            raise

    def deactivate(self, key: str) -> None:
        """Take a key out of use: it is Deactivated from here on."""
        self._revoke(key, enums.RevocationReasonCode.CESSATION_OF_OPERATION)

    def compromise(self, key: str) -> None:
        """Call a key compromised."""
        self._revoke(key, enums.RevocationReasonCode.KEY_COMPROMISE)

    def destroy(self, key: str) -> None:
        """Destroy a key, after deactivating it if need be."""
        if self.state(key) == "active":
            self.deactivate(key)
        with self._connection() as client:
            client.destroy(key)

    def _revoke(self, key: str, reason: enums.RevocationReasonCode) -> None:
        with self._connection() as client:
            client.revoke(reason, key, compromise_occurrence_date=None)

    @staticmethod
    def _describe(client: ProxyKmipClient, key: str) -> Key:
        attributes: dict[str, Any] = {
            attribute.attribute_name.value: attribute.attribute_value
            for attribute in client.get_attributes(key, ["State", "Name"])[1]
        }
        name = attributes.get("Name")
        state = attributes["State"].value.name.lower().replace("_", "-")
        return Key(key, name.name_value.value if name else "", state)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[ProxyKmipClient]:
        client = ProxyKmipClient(
            hostname="127.0.0.1",
            port=self.port,
            cert=str(self.certificate_file),
            key=str(self.key_file),
            ca=str(self.ca_file),
            config_file="/dev/null",
            kmip_version=enums.KMIPVersion.KMIP_1_4,
        )
        with client:
            yield client


_REPOSITORY = Path(__file__).resolve().parents[2]
