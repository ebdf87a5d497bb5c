"""How another process gives orders to a running lab: HTTP on loopback, one JSON list of words a request."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.errors import ControlError


class Door:
    """Serves orders while the context lasts."""

    def __init__(self, run: Callable[[list[str]], Any]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(run))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def give(folder: Path, words: list[str]) -> Any:
    """Give an order to the lab that runs in ``folder``.

    Raises:
        ControlError: the lab refuses it, or does not run.
    """
    try:
        url = json.loads((folder / "lab.json").read_text())["control"]["url"]
        request = urllib.request.Request(url, data=json.dumps(words).encode(), method="POST")  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            return json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        raise ControlError(refused.read().decode()) from None
    except (OSError, KeyError) as gone:
        raise ControlError(f"no lab runs in {folder}: {gone}") from None


def _handler(run: Callable[[list[str]], Any]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            words = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                status, body = 200, json.dumps(run(words))
            except Exception as failed:  # noqa: BLE001 - the caller is in another process and must hear of it
                status, body = 409, str(failed) or type(failed).__name__
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    return Handler
