"""A KMIP server over mutual TLS: PyKMIP's sessions and engine behind a listener of our own.

PyKMIP's own listener refuses TLS 1.3, starts a second process and takes up to ten seconds a thread to stop, none of
which a key server in the field does. Keys stand in the clear in its SQLite file: good for a lab, and for nothing else.
"""

import argparse
import contextlib
import copy
import logging
import os
import secrets
import socket
import sqlite3
import ssl
import sys
import threading
from itertools import count

from kmip.core import exceptions, policy
from kmip.services.server.engine import KmipEngine
from kmip.services.server.session import KmipSession


class _Session(KmipSession):
    """Hangs up where PyKMIP's would go round for ever: on a connection that is broken, or idle for too long."""

    def _receive_bytes(self, message_size):
        try:
            return super()._receive_bytes(message_size)
        except OSError as broken:
            raise exceptions.ConnectionClosed from broken

    def run(self):
        try:
            super().run()
        except OSError as broken:
            # The peer may be gone before PyKMIP shuts the connection down.
            logging.getLogger("kmip.server").info("session ended: %s", broken)


def main() -> None:
    """Serve until standard input ends or SIGTERM."""
    options = _options()
    # At DEBUG PyKMIP writes whole messages, keys included.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(options.ca)
    context.load_cert_chain(options.certificate, options.key)
    engine = KmipEngine(policies=copy.deepcopy(policy.policies), database_path=options.database)
    _number_keys(options.database)
    with socket.create_server(("127.0.0.1", options.port), backlog=64) as listener:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        _serve(listener, context, engine, options.idle_seconds)


def _number_keys(database: str) -> None:
    """Let key ids start anywhere: PyKMIP counts from 1, and "1" is found in any file that is searched for a key id."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        first = 10**17 + secrets.randbelow(10**17)
        connection.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'managed_objects', ? "
            "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'managed_objects')",
            (first,),
        )


def _serve(listener: socket.socket, context: ssl.SSLContext, engine: KmipEngine, idle_seconds: float) -> None:
    for number in count(1):
        raw, address = listener.accept()
        raw.settimeout(idle_seconds)
        connection = context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        session = _Session(engine, connection, address, name=f"{number:08}")
        session.daemon = True
        session.start()


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True, help="authority of the clients")
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--idle-seconds", type=float, default=30.0, help="connections idle for longer are cut")
    return parser.parse_args()


if __name__ == "__main__":
    main()
