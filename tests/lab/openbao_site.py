"""OpenBao as one site's key server, and what an operator does with its keys: real, but in memory.

The appliance's token has the policy of docs/operations.md and no more.
"""

import contextlib
import http.client
import json
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from target_appliance.config import TransitSettings
from tests.lab import build, ports
from tests.lab.child import Child
from tests.lab.pki import LOOPBACK, Authority
from tests.lab.started import Started

MANUAL = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


class OpenBaoSite(Started):
    """A server with Transit mounted and unsealed. A context manager; what it held is gone when it ends.

    Args:
        folder: made when missing; gets ca.crt, server.crt and its key, and a log.
        server_names: what the server's certificate is valid for.
        days: how long that is; negative for one that has expired.
    """

    def __init__(self, folder: Path, server_names: tuple[str, ...] = LOOPBACK, days: int = 365) -> None:
        self._held = contextlib.ExitStack()
        self._folder = folder
        (self.port,) = self._held.enter_context(ports.reserved(1))
        self.authority = Authority("OpenBao authority", folder / "ca.crt")
        self.ca_file = self.authority.certificate_file
        self._server = self.authority.issue_server(folder / "server", server_names, days)
        self.token_file = folder / "token"
        self._child: Child | None = None
        self._root = self._unseal_key = self.token = ""

    @property
    def endpoint(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._child is not None
        return self._child.pid

    def settings(self, **changes: Any) -> TransitSettings:
        """How an appliance reaches it."""
        values = {
            "endpoints": (self.endpoint,),
            "server_name": "localhost",
            "ca_file": str(self.ca_file),
            "token_file": str(self.token_file),
        }
        return TransitSettings.model_validate(values | changes)

    def start(self) -> None:
        """Start it with an empty engine; skips the test where it was not built."""
        if not build.has_openbao():
            pytest.skip("OpenBao is not built here: make openbao, then run the tests again")
        command = [str(build.openbao()), "-port", str(self.port)]
        command += ["-certificate", str(self._server.certificate_file), "-key", str(self._server.key_file)]
        self._child = Child(command, self._folder / "server.log", ready_within=60)
        told = json.loads(self._child.first_line())
        self._root, self._unseal_key = told["root_token"], told["unseal_key"]
        self.ask("POST", "sys/mounts/transit", {"type": "transit"})
        self.ask("POST", "sys/policies/acl/keysapart", {"policy": policy()})
        self.renew_token()

    def renew_token(self) -> None:
        """Give the appliance another token."""
        made = self.ask("POST", "auth/token/create", {"policies": ["keysapart"], "period": "1h"})
        self.token = made["auth"]["client_token"]
        self.token_file.write_text(self.token + "\n")
        self.token_file.chmod(0o600)

    def revoke_token(self) -> None:
        """Take the appliance's token away."""
        self.ask("POST", "auth/token/revoke", {"token": self.token})

    def seal(self) -> None:
        """Lock the server."""
        self.ask("PUT", "sys/seal")

    def unseal(self) -> None:
        """Unlock it."""
        self.ask("PUT", "sys/unseal", {"key": self._unseal_key})

    def pause(self) -> None:
        """Hang: connections are taken, and nothing is answered."""
        assert self._child is not None
        self._child.pause()

    def resume(self) -> None:
        """Answer again."""
        assert self._child is not None
        self._child.resume()

    def deactivate(self, key: str) -> None:
        """Soft-delete a key."""
        self.ask("DELETE", f"transit/keys/{key}/soft-delete")

    def destroy(self, key: str) -> None:
        """Destroy a key."""
        self.ask("POST", f"transit/keys/{key}/config", {"deletion_allowed": True})
        self.ask("DELETE", f"transit/keys/{key}")

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Anything, as root. Raises AssertionError when it is refused."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)
        with contextlib.closing(connection):
            connection.request(method, f"/v1/{path}", json.dumps(body or {}), {"X-Vault-Token": self._root})
            answer = connection.getresponse()
            content = answer.read()
        assert answer.status < 300, (method, path, answer.status, content)
        return json.loads(content) if content else {}

    def stop(self) -> None:
        """End it; connections are refused from here on."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def close(self) -> None:
        """End it, and let its port go."""
        self.stop()
        self._held.close()


def policy() -> str:
    """What the manual tells the operator to allow."""
    return "\n".join(re.findall(r"^ +(path \"transit/.*)$", MANUAL.read_text(), re.MULTILINE))
