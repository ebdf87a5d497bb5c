"""KMIP 1.4 requests to bytes, and answers from bytes. No input or output, no keys kept.

1.4 is the first version in which Encrypt carries associated data and returns the tag
(https://docs.oasis-open.org/kmip/spec/v1.4/kmip-spec-v1.4.html, sections 4.29 and 4.30).
"""

import logging
import struct
from collections.abc import Sequence
from typing import Any

from kmip.core import enums, objects, primitives
from kmip.core.attributes import UniqueIdentifier
from kmip.core.factories.attributes import AttributeFactory
from kmip.core.messages import contents, messages, payloads
from kmip.core.utils import BytearrayStream

from target_appliance.kms.link.connection import GarbledError, Receive, exactly

VERSION = enums.KMIPVersion.KMIP_1_4
_HEADER = struct.Struct(">3sBI")
_RESPONSE_TAG = b"\x42\x00\x7b"
_STRUCTURE = 1
_LONGEST_ANSWER = 1 << 20
_KEK_BITS = 256
_TAG_BYTES = 16

# Not on our path, but in the same process: PyKMIP's client would log whole messages at level debug.
logging.getLogger("kmip").setLevel(logging.WARNING)


class RefusedError(Exception):
    """The server answered, and said no."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason
        """KMIP's result reason in capitals, such as ITEM_NOT_FOUND."""


def encode(operation: enums.Operation, payload: Any) -> bytes:
    """One request with one operation."""
    header = messages.RequestHeader(protocol_version=contents.ProtocolVersion(1, 4), batch_count=contents.BatchCount(1))
    item = messages.RequestBatchItem(
        operation=primitives.Enumeration(enums.Operation, operation, tag=enums.Tags.OPERATION),
        request_payload=payload,
    )
    stream = BytearrayStream()
    messages.RequestMessage(request_header=header, batch_items=[item]).write(stream, VERSION)
    return bytes(stream.buffer)


def receive_message(receive: Receive) -> bytes:
    """One message as the server sent it: three bytes tag, one byte type, four bytes length, then so many bytes.

    Raises:
        GarbledError: it is no KMIP response.
    """
    header = exactly(receive, _HEADER.size)
    tag, kind, length = _HEADER.unpack(header)
    if (tag, kind) != (_RESPONSE_TAG, _STRUCTURE) or length > _LONGEST_ANSWER:
        raise GarbledError("its answer is not KMIP")
    return header + exactly(receive, length)


def decode(answer: bytes, operation: enums.Operation) -> Any:
    """The payload of the answer to ``operation``.

    Raises:
        RefusedError: the server said no.
        GarbledError: the answer cannot be read, or answers something else.
    """
    try:
        message = messages.ResponseMessage()
        message.read(BytearrayStream(answer), VERSION)
        (item,) = message.batch_items
        status = item.result_status.value
        reason = item.result_reason.value if item.result_reason else None
        text = str(item.result_message.value) if item.result_message else ""
        answered = item.operation.value if item.operation else None
    except Exception as error:  # noqa: BLE001  PyKMIP raises a dozen unrelated types on bytes that it cannot read
        raise GarbledError(f"its answer is not KMIP ({type(error).__name__})") from None
    if status != enums.ResultStatus.SUCCESS:
        raise RefusedError(reason.name if reason else status.name, text)
    if answered != operation or item.response_payload is None:
        raise GarbledError("it answered another question than was asked")
    return item.response_payload


def discover_versions() -> Any:
    """Which of the versions that we speak does the server speak?"""
    return payloads.DiscoverVersionsRequestPayload([contents.ProtocolVersion(1, 4)])


def query() -> Any:
    """Which operations does the server offer?"""
    return payloads.QueryRequestPayload([enums.QueryFunction.QUERY_OPERATIONS])


def create(name: str) -> Any:
    """Make a 256-bit AES key called ``name``, good for Encrypt and Decrypt."""
    make = AttributeFactory().create_attribute
    masks = [enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT]
    attributes = [
        make(enums.AttributeType.CRYPTOGRAPHIC_ALGORITHM, enums.CryptographicAlgorithm.AES),
        make(enums.AttributeType.CRYPTOGRAPHIC_LENGTH, _KEK_BITS),
        make(enums.AttributeType.CRYPTOGRAPHIC_USAGE_MASK, masks),
        make(enums.AttributeType.NAME, name),
    ]
    return payloads.CreateRequestPayload(
        enums.ObjectType.SYMMETRIC_KEY, objects.TemplateAttribute(attributes=attributes)
    )


def activate(key: str) -> Any:
    """Make a key usable."""
    return payloads.ActivateRequestPayload(unique_identifier=_identifier(key))


def get_state(key: str) -> Any:
    """In which state is a key?"""
    return payloads.GetAttributesRequestPayload(key, [enums.AttributeType.STATE.value])


def state_in(payload: Any) -> enums.State:
    """The state in an answer to ``get_state``. Raises GarbledError."""
    for attribute in payload.attributes or ():
        if attribute.attribute_name.value == enums.AttributeType.STATE.value:
            state: enums.State = attribute.attribute_value.value
            return state
    raise GarbledError("it names no state of the key")


def revoke(key: str) -> Any:
    """Take a key out of use for good."""
    reason = objects.RevocationReason(code=enums.RevocationReasonCode.CESSATION_OF_OPERATION)
    return payloads.RevokeRequestPayload(revocation_reason=reason, unique_identifier=_identifier(key))


def destroy(key: str) -> Any:
    """Erase a key that is out of use."""
    return payloads.DestroyRequestPayload(unique_identifier=_identifier(key))


def encrypt(key: str, nonce: bytes, plaintext: bytes, associated_data: bytes) -> Any:
    """AES-GCM under a key of the server, with a nonce of ours."""
    return payloads.EncryptRequestPayload(
        unique_identifier=key,
        cryptographic_parameters=_gcm(),
        data=plaintext,
        iv_counter_nonce=nonce,
        auth_additional_data=associated_data,
    )


def decrypt(key: str, nonce: bytes, ciphertext: bytes, tag: bytes, associated_data: bytes) -> Any:
    """The way back; the server refuses a wrong tag."""
    return payloads.DecryptRequestPayload(
        unique_identifier=key,
        cryptographic_parameters=_gcm(),
        data=ciphertext,
        iv_counter_nonce=nonce,
        auth_additional_data=associated_data,
        auth_tag=tag,
    )


def offered(payload: Any) -> Sequence[enums.Operation]:
    """Operations in an answer to ``query``; empty where the server does not say."""
    return [
        operation if isinstance(operation, enums.Operation) else operation.value
        for operation in payload.operations or ()
    ]


def _gcm() -> Any:
    return objects.CryptographicParameters(
        block_cipher_mode=enums.BlockCipherMode.GCM,
        cryptographic_algorithm=enums.CryptographicAlgorithm.AES,
        tag_length=_TAG_BYTES,
    )


def _identifier(key: str) -> Any:
    return UniqueIdentifier(key)
