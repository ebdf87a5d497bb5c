"""The forms of an export. Data is opened on a few threads and written front to back by the caller's."""

import enum
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import lz4.block

from common.errors import InvalidInputError
from common.grain import GRAIN_BYTES
from common.output_file import Output, refuse_existing
from target_appliance.recovery.chain import DiskView
from target_appliance.recovery.export.grains import Counted, grains
from target_appliance.recovery.export.sparse import SparseWriter
from target_appliance.recovery.findings import Progress
from target_appliance.vmdk.descriptor import (
    FLAT,
    SPARSE,
    STREAM,
    Descriptor,
    ExtentLine,
    printable_file_name,
)
from target_appliance.vmdk.layout import GRAIN_MARKER, GRAIN_SECTORS, SECTOR_BYTES, padded
from target_appliance.vmdk.writer import ExtentWriter

_DEFLATE_LEVEL: Final = 1
"""Fastest: what an export waits for. Level 6 takes four times as long for a tenth fewer bytes."""
_STORED: Final = 0

Made = TypeVar("Made")


class Form(enum.StrEnum):
    """How an export is written."""

    RAW = "raw"
    """The disk's bytes; zeros as holes."""
    FLAT = "flat"
    """monolithicFlat: a descriptor, and the disk's bytes beside it in NAME-flat.vmdk."""
    SPARSE = "sparse"
    """monolithicSparse: one growing VMDK."""
    STREAM = "stream"
    """streamOptimized: one compressed VMDK, as OVF packages want it."""


def export(view: DiskView, adapter: str, form: Form, path: Path, progress: Progress) -> tuple[Path, ...]:
    """Write the disk to ``path``; returns the files made.

    Args:
        view: the disk at a point; stays the caller's.
        adapter: for a descriptor.
        form: see Form.
        path: a new file; ``flat`` makes a second one beside it.
        progress: bytes of the disk that were passed, holes included; they add up to its capacity.

    Raises:
        AlreadyExistsError: a file of that name is there.
        DamagedError: what is stored is not what was committed; no file is left.
        StoreFullError, StoreError, NotFoundError: the medium of ``path``.
        InvalidInputError: the name cannot stand in a descriptor, or the disk is too large for the form.
    """
    counted = Counted(view.capacity_bytes, progress)
    match form:
        case Form.RAW:
            _raw(view, path, counted)
        case Form.FLAT:
            return _flat(view, adapter, path, counted)
        case Form.SPARSE:
            _sparse(view, adapter, path, counted)
        case Form.STREAM:
            _stream(view, adapter, path, counted)
    return (path,)


def _plain(_grain: int, data: bytes) -> bytes:
    return data


def _raw(view: DiskView, path: Path, counted: Counted) -> None:
    with Output(path) as output:
        for grain, data in grains(view, counted, _plain):
            output.skip_to(grain * GRAIN_BYTES)
            output.append([data])
        # The last grain is padded past the capacity: the cut takes it off.
        output.end_at(view.capacity_bytes)
        output.publish()
    counted.finished()


def _flat(view: DiskView, adapter: str, path: Path, counted: Counted) -> tuple[Path, ...]:
    data_path = path.with_name(f"{path.stem}-flat.vmdk")
    _refuse_odd_name(data_path)
    refuse_existing(path)
    extent = ExtentLine(view.capacity_bytes // SECTOR_BYTES, "FLAT", data_path.name)
    descriptor = Descriptor(FLAT, 1, [extent], adapter)
    with Output(path) as output:
        output.append([descriptor.encode()])
        _raw(view, data_path, counted)
        output.publish()
    return path, data_path


def _own_descriptor(view: DiskView, adapter: str, path: Path, create_type: str) -> bytes:
    _refuse_odd_name(path)
    extent = ExtentLine(view.capacity_bytes // SECTOR_BYTES, "SPARSE", path.name)
    return Descriptor(create_type, 1, [extent], adapter).embedded()


def _sparse(view: DiskView, adapter: str, path: Path, counted: Counted) -> None:
    descriptor = _own_descriptor(view, adapter, path, SPARSE)
    with Output(path) as output:
        writer = SparseWriter(output, view.capacity_bytes, descriptor)
        with _room_in(path):
            for grain, data in grains(view, counted, _plain):
                writer.add(grain, data)
        writer.finish()
        output.publish()
    counted.finished()


def _stream(view: DiskView, adapter: str, path: Path, counted: Counted) -> None:
    descriptor = _own_descriptor(view, adapter, path, STREAM)
    with Output(path) as output:
        writer = ExtentWriter(output, view.capacity_bytes, descriptor)
        with _room_in(path):
            for grain, record in grains(view, counted, _deflated):
                writer.add(grain, record)
                writer.flush()
        writer.finish()
        output.publish()
    counted.finished()


def _deflated(grain: int, data: bytes) -> bytes:
    # Deflate takes 2 ms to learn that random bytes do not shrink, LZ4 a hundredth of that.
    shrinks = len(lz4.block.compress(data, mode="fast", store_size=False)) < GRAIN_BYTES
    packed = zlib.compress(data, _DEFLATE_LEVEL if shrinks else _STORED)
    record = GRAIN_MARKER.pack(grain * GRAIN_SECTORS, len(packed)) + packed
    return record.ljust(padded(len(record)), b"\0")


@contextmanager
def _room_in(path: Path) -> Iterator[None]:
    """Turn a file that outgrows its format into a refusal."""
    try:
        yield
    except OverflowError:
        raise InvalidInputError(
            f"{path} would hold more than the 2 TiB that one sparse VMDK can",
            subject=f"file {path}",
            next_step="export as raw or flat",
        ) from None


def _refuse_odd_name(path: Path) -> None:
    if not printable_file_name(path.name):
        raise InvalidInputError(
            f"the file name {path.name[:80]!a} cannot stand in a VMDK descriptor",
            subject=f"file {path.name[:80]!a}",
            next_step="use letters, digits, dots, hyphens, underscores and spaces",
        )
