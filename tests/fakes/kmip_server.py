"""KMIP servers with bad manners: over real TLS, but wrong on the wire, or wrong in what they do.

``Rogue`` answers each request with whatever bytes a test says. ``sloppy`` is such an answer that speaks proper KMIP and
does AES-GCM, with one flaw of choice.
"""

import contextlib
import itertools
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kmip.core import enums
from kmip.core.attributes import State, UniqueIdentifier
from kmip.core.factories.attributes import AttributeFactory
from kmip.core.messages import contents, messages, payloads
from kmip.core.utils import BytearrayStream

from tests.lab.pki import Authority

Op = enums.Operation
V1_4 = enums.KMIPVersion.KMIP_1_4

Answer = Callable[[bytes, ssl.SSLSocket], None]
"""Takes a whole request; sends what it likes."""


def _more(secure: ssl.SSLSocket, most: int) -> bytes:
    piece = secure.recv(most)
    if not piece:
        raise ConnectionResetError("the client hung up in the middle")
    return piece


def read_kmip(secure: ssl.SSLSocket) -> bytes:
    """One request; empty when the client hung up."""
    request = secure.recv(8)
    while request and len(request) < 8 + int.from_bytes(request[4:8], "big"):
        request += _more(secure, 8 + int.from_bytes(request[4:8], "big") - len(request))
    return request


def read_http(secure: ssl.SSLSocket) -> bytes:
    """One request; empty when the client hung up."""
    request = secure.recv(4096)
    while request and b"\r\n\r\n" not in request:
        request += _more(secure, 4096)
    head, _, body = request.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += _more(secure, length - len(body))
    return request[: len(head) + 4] + body


class Rogue:
    """A TLS server on a loopback port that answers as told; ``requests`` counts what it was asked."""

    def __init__(self, folder, answer: Answer, authority: Authority | None = None, read=read_kmip):
        self.authority = authority or Authority("rogue", folder / "rogue-ca.crt")
        issued = self.authority.issue_server(folder / "rogue")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(issued.certificate_file, issued.key_file)
        self.answer = answer
        self._read = read
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[ssl.SSLSocket] = []
        self._serving: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Shutting down wakes a blocked accept, closing alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        # Closed only when nobody reads any more: a reader would go on with whoever gets the number next.
        for thread in self._serving:
            thread.join()
        for connection in self._open:
            connection.close()

    def _accept(self):
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            secure = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            self._open.append(secure)
            self._serving.append(threading.Thread(target=self._serve, args=(secure,), daemon=True))
            self._serving[-1].start()

    def _serve(self, secure):
        with contextlib.suppress(OSError):
            secure.do_handshake()
            self.connections += 1
            while request := self._read(secure):
                self.requests.append(request)
                self.answer(request, secure)


def say(data: bytes) -> Answer:
    """Send fixed bytes."""
    return lambda _request, secure: secure.sendall(data)


def cut(_request: bytes, secure: ssl.SSLSocket) -> None:
    """Hang up."""
    secure.shutdown(socket.SHUT_RDWR)


def silent(_request: bytes, _secure: ssl.SSLSocket) -> None:
    """Say nothing."""


def half(request: bytes, secure: ssl.SSLSocket) -> None:
    """Begin an answer and hang up in the middle."""
    secure.sendall(bytes.fromhex("42007b0100000100") + bytes(16))
    cut(request, secure)


def trickle(_request: bytes, secure: ssl.SSLSocket) -> None:
    """Begin an answer and go on with a byte now and then, for ever."""
    secure.sendall(bytes.fromhex("42007b0100001000"))
    pause = threading.Event()
    while not pause.wait(0.05):
        secure.sendall(b"\0")


def then(*answers: Answer) -> Answer:
    """One after the other, the last one for ever."""
    left = itertools.chain(answers, itertools.repeat(answers[-1]))

    def answer(request: bytes, secure: ssl.SSLSocket) -> None:
        one = next(left)
        one(request, secure)

    return answer


def _refuse(operation):
    raise PermissionError(f"this client may not {operation.name}")


@dataclass
class Sloppy:
    """A KMIP 1.4 server in a few lines. ``flaw`` is one of the names below, or empty for none.

    ignores-associated-data, no-tag, short-tag, plaintext, wrong-plaintext, own-nonce, no-version, few-operations,
    no-destroy, stateless, and refuses-X for an operation X
    """

    flaw: str = ""
    keys: dict[str, tuple[bytes, enums.State]] = field(default_factory=dict)
    asked: list[enums.Operation] = field(default_factory=list)

    def __call__(self, request: bytes, secure: ssl.SSLSocket) -> None:
        message = messages.RequestMessage()
        message.read(BytearrayStream(request), V1_4)
        (item,) = message.batch_items
        operation = item.operation.value
        self.asked.append(operation)
        answer = messages.ResponseBatchItem(operation=contents.Operation(operation))
        try:
            if self.flaw == f"refuses-{operation.name}":
                _refuse(operation)
            answer.response_payload = getattr(self, f"_{operation.name.lower()}")(item.request_payload)
            answer.result_status = contents.ResultStatus(enums.ResultStatus.SUCCESS)
        except (PermissionError, KeyError, InvalidTag) as error:
            reasons = {PermissionError: "PERMISSION_DENIED", KeyError: "ITEM_NOT_FOUND"}
            reason = reasons.get(type(error), "GENERAL_FAILURE")
            answer.result_status = contents.ResultStatus(enums.ResultStatus.OPERATION_FAILED)
            answer.result_reason = contents.ResultReason(enums.ResultReason[reason])
            answer.result_message = contents.ResultMessage(str(error) or "failed")
        header = messages.ResponseHeader(
            contents.ProtocolVersion(1, 4), contents.TimeStamp(1_800_000_000), contents.BatchCount(1)
        )
        stream = BytearrayStream()
        messages.ResponseMessage(header, [answer]).write(stream, V1_4)
        secure.sendall(bytes(stream.buffer))

    def _discover_versions(self, _payload):
        versions = [] if self.flaw == "no-version" else [contents.ProtocolVersion(1, 4)]
        return payloads.DiscoverVersionsResponsePayload(versions)

    def _query(self, _payload):
        offered = [Op.CREATE, Op.ACTIVATE, Op.GET_ATTRIBUTES, Op.ENCRYPT, Op.DECRYPT]
        return payloads.QueryResponsePayload(operations=offered[:3] if self.flaw == "few-operations" else offered)

    def _create(self, _payload):
        key = str(len(self.keys) + 1)
        self.keys[key] = (os.urandom(32), enums.State.PRE_ACTIVE)
        return payloads.CreateResponsePayload(enums.ObjectType.SYMMETRIC_KEY, key)

    def _move(self, payload, state):
        key = payload.unique_identifier.value
        self.keys[key] = (self.keys[key][0], state)
        return UniqueIdentifier(key)

    def _activate(self, payload):
        return payloads.ActivateResponsePayload(self._move(payload, enums.State.ACTIVE))

    def _revoke(self, payload):
        return payloads.RevokeResponsePayload(self._move(payload, enums.State.DEACTIVATED))

    def _destroy(self, payload):
        if self.flaw == "no-destroy":
            raise PermissionError("keys are kept")
        del self.keys[payload.unique_identifier.value]
        return payloads.DestroyResponsePayload(payload.unique_identifier)

    def _get_attributes(self, payload):
        key = payload.unique_identifier
        attribute = AttributeFactory().create_attribute(enums.AttributeType.STATE, self.keys[key][1])
        assert isinstance(attribute.attribute_value, State)
        return payloads.GetAttributesResponsePayload(key, [] if self.flaw == "stateless" else [attribute])

    def _encrypt(self, payload):
        aad = b"" if self.flaw == "ignores-associated-data" else payload.auth_additional_data or b""
        nonce = os.urandom(12) if self.flaw == "own-nonce" else payload.iv_counter_nonce
        sealed = AESGCM(self.keys[payload.unique_identifier][0]).encrypt(nonce, payload.data, aad)
        data, tag = sealed[:-16], sealed[-16:]
        return payloads.EncryptResponsePayload(
            payload.unique_identifier,
            payload.data if self.flaw == "plaintext" else data,
            nonce if self.flaw == "own-nonce" else None,
            {"no-tag": None, "short-tag": tag[:12]}.get(self.flaw, tag),
        )

    def _decrypt(self, payload):
        if self.flaw == "plaintext":
            return payloads.DecryptResponsePayload(payload.unique_identifier, payload.data)
        aad = b"" if self.flaw == "ignores-associated-data" else payload.auth_additional_data or b""
        key = AESGCM(self.keys[payload.unique_identifier][0])
        data = key.decrypt(payload.iv_counter_nonce, payload.data + payload.auth_tag, aad)
        return payloads.DecryptResponsePayload(
            payload.unique_identifier, bytes(len(data)) if self.flaw == "wrong-plaintext" else data
        )
