"""The parsers, each as a function of bytes that may raise what it declares and nothing else, with bytes to begin from.

What a check sum or a seal would turn away at the door is sealed here first, so that what lies behind it is tried too.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import lz4.block
from blake3 import blake3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common import config, pairing_line
from common.address import HostPort
from common.errors import CertificateError, ConfigError, InvalidInputError, ProtocolError
from common.grain import GRAIN_BYTES, ZERO_DIGEST, GrainKind, digest
from common.grain_check import check_grain
from common.ids import DiskKey, PointNumber, ReplicaId
from common.sync import codec
from common.sync.events import Batch, Done, GrainRecord, Open, record_fits
from source_agent.config import AgentConfig
from target_appliance.config import ApplianceConfig
from target_appliance.identity.authn import Trust, identify
from target_appliance.identity.certificates import certify_agent, make_authority, new_key
from target_appliance.identity.names import agent_uri, parse_uri
from target_appliance.identity.requests import requested_key
from target_appliance.recovery import record_file
from target_appliance.recovery.digests import DigestList, DigestListError, DigestListWriter, list_header
from target_appliance.seal import selfcheck
from target_appliance.seal.grain import GrainOpener, UnsealError
from target_appliance.seal.keys import DataKey
from target_appliance.seal.manifest import SEAL_BYTES, associated_data, header
from target_appliance.seal.manifest_reader import ManifestError, ManifestReader
from target_appliance.seed import descriptor
from target_appliance.store.memory import MemoryReadFile, MemoryStore
from target_appliance.vmdk.reader import LayoutError
from tests.fakes.clock import START
from tests.fuzz import extents

SYNC = "5d1e4f8c-6f6d-4b3a-9d0e-0a1b2c3d4e5f"
REPLICA = ReplicaId("11111111-1111-4111-8111-111111111111")
POINT = PointNumber(1)
KEY = DataKey(REPLICA, DiskKey(2000), 1, bytes(32))
FOUND = Path(__file__).parent / "found"
"""Inputs that once broke a parser, by its name; every run of the suite tries them again."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser."""

    run: Callable[[bytes], object]
    may_raise: tuple[type[Exception], ...]
    seeds: Callable[[], Iterable[bytes]]

    def try_one(self, data: bytes) -> None:
        """Raises whatever the parser must not."""
        try:
            self.run(data)
        except self.may_raise:
            return


def _frame(data: bytes) -> None:
    event = codec.decode(data)
    if isinstance(event, Batch):
        for record in event.records:
            if record_fits(record):
                check_grain(record)


def _frames() -> Iterable[bytes]:
    text = b"keysapart " * 6553 + b"......"
    packed = lz4.block.compress(text, store_size=False)
    yield codec.encode(Open(SYNC, DiskKey(2000), answer_each=True))
    yield codec.encode(Done(3, 4))
    yield codec.encode(Batch(1, [GrainRecord(7, GrainKind.LZ4, digest(text), packed)]))
    yield codec.encode(Batch(2, [GrainRecord(9, GrainKind.ZERO, digest(bytes(GRAIN_BYTES)), b"")]))


def _lz4(data: bytes) -> None:
    check_grain(GrainRecord(0, GrainKind.LZ4, ZERO_DIGEST, data))


def _packed() -> Iterable[bytes]:
    yield lz4.block.compress(bytes(GRAIN_BYTES), store_size=False)


def _payload(data: bytes) -> None:
    """A grain's payload as it stands in an extent, and one whose seal fits."""
    opener = GrainOpener(KEY)
    for payload in (data, _sealed_grain(data[: GRAIN_BYTES + 1])):
        try:
            opener.unseal(payload, 0, POINT)
        except UnsealError:
            continue


def _sealed_grain(plain: bytes) -> bytes:
    nonce = bytes(12)
    binding = KEY.binding(POINT) + (0).to_bytes(4, "little")
    return POINT.to_bytes(4, "little") + nonce + AESGCM(KEY.grain_key(POINT)).encrypt(nonce, plain, binding)


def _manifest(data: bytes) -> None:
    """The file as it is, and as the plaintext of a chunk whose seal fits."""
    binding = KEY.binding(POINT)
    nonce = bytes(SEAL_BYTES - 16)
    bound = associated_data(binding, SYNC, 0, last=True)
    sealed = header(binding, SYNC) + nonce + AESGCM(KEY.manifest_key(POINT)).encrypt(nonce, data[: 4096 * 20], bound)
    for content in (data, header(binding, SYNC) + data, sealed):
        try:
            reader = ManifestReader(MemoryReadFile(bytearray(content)), KEY, POINT, SYNC)
            list(reader.all())
            reader.between(0, 100)
            reader.next_grain(5)
        except ManifestError:
            continue


def _record(data: bytes) -> None:
    members = selfcheck.decode(_selfchecked(data))
    record_file.from_members(members)


def _selfchecked(body: bytes) -> bytes:
    """``body`` with the digest that makes it pass for a file of ours."""
    body = body if body.endswith(b"}") else body + b"}"
    mark = blake3(body + b"\n").hexdigest().encode("ascii")
    return body[:-1] + b',"~blake3":"' + mark + b'"}\n'


def _records() -> Iterable[bytes]:
    for path in sorted(extents.GOLDEN.rglob("point.json")):
        yield selfcheck.canonical(selfcheck.decode(path.read_bytes()))


def _digest_list(data: bytes) -> None:
    content = list_header(REPLICA, DiskKey(2000), POINT) + data
    content += blake3(content).digest()
    found = DigestList(MemoryReadFile(bytearray(content)), REPLICA, DiskKey(2000), POINT)
    for listed in found.files:
        for _ in islice(found.digests(listed), 4096):
            pass


def _digest_lists() -> Iterable[bytes]:
    """Without header and sum."""
    store = MemoryStore()
    with store.create("list") as file:
        listing = DigestListWriter(file, REPLICA, DiskKey(2000), POINT)
        listing.add("disk-2000.vmdk", (2 << 20) + 5, bytes(3 * 16))
        listing.add("disk-2000.manifest", 100, bytes(16))
        listing.finish()
    yield bytes(store.content("list")[len(list_header(REPLICA, DiskKey(2000), POINT)) : -32])


def _config(model: type[config.Section]) -> Callable[[bytes], object]:
    path = Path(tempfile.gettempdir()) / f"keysapart-fuzz-{os.getpid()}.toml"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        try:
            config.load(path, model)
        finally:
            path.unlink()

    return run


def _example(half: str) -> Callable[[], Iterable[bytes]]:
    return lambda: [(Path(__file__).parents[2] / "deploy" / half / "example.toml").read_bytes()]


AUTHORITY = make_authority("keysapart.test", START)
AGENT_URI = agent_uri("keysapart.test", "acme", "00000000-0000-4000-8000-00000000000a")


def _certificate(data: bytes) -> None:
    identify(data, Trust("keysapart.test", (AUTHORITY.certificate,)), START)


def _certificates() -> Iterable[bytes]:
    pem = certify_agent(AUTHORITY, AGENT_URI, new_key().public_key(), START)
    yield pem
    yield x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def _name(data: bytes) -> None:
    parse_uri(data.decode("utf-8", "replace"), "keysapart.test")


def _line(data: bytes) -> None:
    """The line as it is, and with a sum that fits; an argument may hold what is no text."""
    text = data.decode("utf-8", "surrogateescape")
    for line in (text, f"{text}/{pairing_line._sum(text)}" if text.isascii() else text):
        try:
            pairing_line.parse(line)
        except InvalidInputError:
            continue


def _lines() -> Iterable[bytes]:
    line = pairing_line.PairingLine(HostPort("target.example:7444"), bytes(32), bytes(32)).text()
    yield line.encode()
    yield line.rpartition("/")[0].encode()


def _requests() -> Iterable[bytes]:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    yield builder.sign(new_key(), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


TARGETS: dict[str, Target] = {
    "frame": Target(_frame, (ProtocolError, InvalidInputError), _frames),
    "lz4-block": Target(_lz4, (ProtocolError,), _packed),
    "grain-payload": Target(_payload, (), lambda: [b"\x00" + bytes(100), _sealed_grain(bytes(10))]),
    "extent": Target(extents.whole, (LayoutError,), extents.wholes),
    "grain-table": Target(extents.tables, (), extents.good_tables),
    "grain-marker": Target(extents.markers, (), extents.good_markers),
    "manifest": Target(_manifest, (), lambda: [bytes(40), bytes.fromhex("0100000000" * 8)]),
    "point-record": Target(_record, (selfcheck.SelfCheckError, ValueError), _records),
    "digest-list": Target(_digest_list, (DigestListError,), _digest_lists),
    "seed-descriptor": Target(
        descriptor.parse, (ValueError,), lambda: [b'RW 2048 FLAT "a-flat.vmdk" 0\nparentCID=ffffffff']
    ),
    "seed-extent": Target(extents.foreign, (InvalidInputError,), extents.foreigns),
    "agent-config": Target(_config(AgentConfig), (ConfigError,), _example("agent")),
    "appliance-config": Target(_config(ApplianceConfig), (ConfigError,), _example("appliance")),
    "certificate": Target(_certificate, (CertificateError,), _certificates),
    "certificate-request": Target(requested_key, (InvalidInputError,), _requests),
    "pairing-line": Target(_line, (), _lines),
    "certificate-name": Target(_name, (CertificateError,), lambda: [AGENT_URI.encode()]),
}


def inputs(name: str) -> Iterable[bytes]:
    """Where a fuzzer of ``name`` begins: good bytes, and what once broke it."""
    yield from TARGETS[name].seeds()
    for path in sorted((FOUND / name).glob("*")):
        yield path.read_bytes()
