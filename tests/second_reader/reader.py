"""The reader. Section numbers are those of docs/format.md."""

import hashlib
import hmac
import json
import struct
import uuid

import lz4.block
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

GRAIN = 65536
SECTOR = 512
EXTENT = 64 << 30
ZEROS = bytes(GRAIN)


class FormatError(Exception):
    """The store is not as the page says."""


def need(condition, what):
    if not condition:
        raise FormatError(what)


def canonical(value):
    """Section 2."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def read_json(path):
    """Section 2: a file that ends in a digest of itself."""
    content = path.read_bytes()
    head, tail = content[:-79], content[-79:]
    mark = blake3(head + b"}\n").hexdigest()
    need(tail == b',"~blake3":"' + mark.encode("ascii") + b'"}\n', f"{path} does not fit its digest")
    members = json.loads(content)
    need(members.pop("~blake3") == mark and canonical(members) == head + b"}", f"{path} is not canonical")
    need(members["format"] == 1, f"{path} has another format")
    return members


def revealed(path):
    """Section 13: DEKs by disk and epoch."""
    members = json.loads(path.read_bytes())
    need(members["format"] == "keysapart revealed keys 1", f"{path} has another format")
    return {(one["disk"], one["epoch"]): bytes.fromhex(one["dek"]) for one in members["keys"]}


class Keys:
    """Section 3, for one disk."""

    def __init__(self, replica, disk, dek):
        self.replica, self.disk, self.dek = replica, disk, dek

    def binding(self, point):
        return uuid.UUID(self.replica).bytes + struct.pack("<II", self.disk, point)

    def key(self, purpose, point):
        info = b"keysapart/1/" + purpose + b"\0" + self.binding(point)
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self.dek)


def opened(key, sealed, associated_data, what):
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], associated_data)
    except InvalidTag:
        raise FormatError(f"{what} does not open") from None


def read_manifest(path, keys, point, record):
    """Section 7: digest by grain."""
    content = path.read_bytes()
    sync = uuid.UUID(record["sync"]).bytes
    header = struct.pack("<8sII24s16s8x", b"KSAMANI\n", 1, 4096, keys.binding(point), sync)
    need(content[:64] == header, f"{path} has another header")
    body = content[64:]
    stride = 12 + 4096 * 20 + 16
    chunks = [body[at : at + stride] for at in range(0, len(body), stride)]
    need(chunks, f"{path} has no chunk")
    plain = b""
    for number, chunk in enumerate(chunks):
        mark = struct.pack("<IB", number, number == len(chunks) - 1)
        plain += opened(
            keys.key(b"manifest", point), chunk, keys.binding(point) + sync + mark, f"chunk {number} of {path}"
        )
    described = next(disk for disk in record["disks"] if disk["key"] == keys.disk)
    root = blake3(plain, key=keys.key(b"root", point)).hexdigest()
    need(root == described["manifest_root"], f"{path} has another root")
    found = dict(struct.iter_unpack("<I16s", plain))
    need(len(found) * 20 == len(plain) and len(found) == described["grains"], f"{path} has another count")
    need(list(found) == sorted(found), f"{path} does not rise")
    return found


def read_vm(folder, keys, point):
    """Section 14: the VM's configuration at a point, None where there is none; ``keys`` is of the disk it names."""
    members = read_json(folder / "point.json")
    record = members["record"]
    mac = hmac.new(keys.key(b"record", point), canonical(record), hashlib.sha256).hexdigest()
    need(members["macs"][str(keys.disk)] == mac, f"the record in {folder} is not authentic")
    named = record.get("vm")
    if named is None:
        return None
    need(named["disk"] == keys.disk, f"another disk's key opens the configuration in {folder}")
    content = (folder / "vm.sealed").read_bytes()
    need((len(content), blake3(content).hexdigest()) == (named["size"], named["digest"]), "vm.sealed is another one")
    head = struct.pack("<8sI24s16s", b"KSAVMCF\n", 1, keys.binding(point), uuid.UUID(record["sync"]).bytes)
    need(content[:52] == head, "vm.sealed has another header")
    return json.loads(opened(keys.key(b"vm", point), content[52:], head, "vm.sealed"))


class Extent:
    """Section 5, one extent of one file."""

    def __init__(self, path):
        self.path = path
        self.file = path.open("rb")
        header = self.at(0, SECTOR)
        magic, version, flags = struct.unpack_from("<4sII", header)
        (directory,) = struct.unpack_from("<Q", header, 56)
        need((magic, version, flags) == (b"KDMV", 3, 0x30005), f"{path} has another header")
        (capacity,) = struct.unpack_from("<Q", header, 12)
        tables = -(-capacity // (512 * 128))
        self.directory = struct.unpack(f"<{tables}I", self.at(directory * SECTOR, 4 * tables))

    def at(self, offset, length):
        self.file.seek(offset)
        data = self.file.read(length)
        need(len(data) == length, f"{self.path} ends too early")
        return data

    def entry(self, grain):
        table = self.directory[grain // 512]
        if not table:
            return 0
        return struct.unpack("<I", self.at(table * SECTOR + 4 * (grain % 512), 4))[0]

    def payload(self, grain, sector):
        first, size = struct.unpack("<QI", self.at(sector * SECTOR, 12))
        need(first == grain * 128, f"the marker of grain {grain} in {self.path} names another one")
        return self.at(sector * SECTOR + 12, size)


def unseal(keys, payload, grain, newest):
    """Section 6."""
    (point,) = struct.unpack_from("<I", payload)
    need(1 <= point <= newest, f"grain {grain} has a key point from the future")
    context = keys.binding(point) + struct.pack("<I", grain)
    plain = opened(keys.key(b"grain", point), payload[4:], context, f"grain {grain}")
    codec, data = plain[0], plain[1:]
    need(codec in (1, 2), f"grain {grain} has an unknown codec")
    if codec == 2:
        data = lz4.block.decompress(data, uncompressed_size=GRAIN)
    need(len(data) == GRAIN, f"grain {grain} has another length")
    return data


class Layer:
    """One point's part of a disk."""

    def __init__(self, points, keys, point, above=None):
        folder = points / f"{point:06d}"
        self.keys, self.point = keys, point
        if folder.exists():
            members = read_json(folder / "point.json")
            name = f"disk-{keys.disk}.manifest"
        else:  # absorbed by the one above
            members = read_json(points.parent / "records" / f"{point:06d}.json")
            name = f"disk-{keys.disk}-p{point:06d}.manifest"
        self.record = members["record"]
        need((self.record["replica"], self.record["point"]) == (keys.replica, point), f"{folder} holds another point")
        described = [disk for disk in self.record["disks"] if disk["key"] == keys.disk]
        need(described, f"{folder} does not have disk {keys.disk}")
        self.disk = described[0]
        mac = hmac.new(keys.key(b"record", point), canonical(self.record), hashlib.sha256).hexdigest()
        need(members["macs"][str(keys.disk)] == mac, f"the record in {folder} is not authentic")
        self.holder = self if folder.exists() else above.holder
        self.folder = folder if folder.exists() else above.folder
        self.manifest = read_manifest(self.folder / name, keys, point, self.record)
        self.extents = {}

    def read(self, grain):
        """Section 9, step 4."""
        number, inside = divmod(grain, EXTENT // GRAIN)
        if number not in self.extents:
            several = self.holder.disk["capacity_bytes"] > EXTENT
            suffix = f"-s{number + 1:03d}" if several else ""
            self.extents[number] = Extent(self.folder / f"disk-{self.keys.disk}{suffix}.vmdk")
        extent = self.extents[number]
        entry = extent.entry(inside)
        need(entry, f"grain {grain} is not in {extent.path}")
        data = ZEROS if entry == 1 else unseal(self.keys, extent.payload(inside, entry), grain, self.holder.point)
        need(blake3(data).digest(length=16) == self.manifest[grain], f"grain {grain} is another one")
        return data

    def close(self):
        for extent in self.extents.values():
            extent.file.close()


class Replica:
    """A replica's folder."""

    def __init__(self, folder):
        self.folder = folder

    def layers(self, point, disk, dek):
        """Section 9, steps 1 and 2: newest first."""
        keys = Keys(self.folder.resolve().name, disk, dek)
        found = []
        while point is not None:
            layer = Layer(self.folder / "points", keys, point, found[-1] if found else None)
            found.append(layer)
            below = layer.disk["base_point"]
            need(below is None or 0 < below < point, f"point {point} stands on a later one")
            point = below
        return found

    def grains(self, point, disk, dek):
        """Section 9, step 3: every grain that some point holds, rising; zeros included."""
        layers = self.layers(point, disk, dek)
        capacity = layers[0].disk["capacity_bytes"]
        held = sorted({grain for layer in layers for grain in layer.manifest if grain * GRAIN < capacity})
        try:
            for grain in held:
                layer = next(layer for layer in layers if grain in layer.manifest)
                data = layer.read(grain)
                yield grain, data[: min(GRAIN, capacity - grain * GRAIN)]
        finally:
            for layer in layers:
                layer.close()

    def write(self, point, disk, dek, out):
        """The disk as a sparse raw file; returns the number of grains that are held."""
        members = read_json(self.folder / "points" / f"{point:06d}" / "point.json")
        capacity = next(entry["capacity_bytes"] for entry in members["record"]["disks"] if entry["key"] == disk)
        count = 0
        with out.open("xb") as file:
            for grain, data in self.grains(point, disk, dek):
                count += 1
                if data.strip(b"\0"):
                    file.seek(grain * GRAIN)
                    file.write(data)
            file.truncate(capacity)
        return count
