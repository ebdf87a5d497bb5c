"""The VMDK descriptor of a sealed disk: a function of its record, so that an altered one shows."""

from common.ids import PointNumber
from target_appliance.recovery import names
from target_appliance.recovery.types import DiskSpec
from target_appliance.vmdk.descriptor import NO_PARENT, SEVERAL_SPARSE, STREAM, Descriptor, ExtentLine
from target_appliance.vmdk.layout import SECTOR_BYTES, extent_capacities


def sealed_descriptor(spec: DiskSpec, point: PointNumber, base_point: PointNumber | None) -> Descriptor:
    """What the descriptor of ``spec`` at ``point``, standing on ``base_point``, says."""
    capacities = extent_capacities(spec.capacity_bytes)
    return Descriptor(
        create_type=STREAM if len(capacities) == 1 else SEVERAL_SPARSE,
        content_id=point,
        extents=[
            ExtentLine(capacity // SECTOR_BYTES, "SPARSE", names.extent_file(spec.key, number, len(capacities)))
            for number, capacity in enumerate(capacities, 1)
        ],
        adapter=spec.adapter,
        parent_id=NO_PARENT if base_point is None else base_point,
        parent_hint=None if base_point is None else names.parent_hint(spec.key, base_point),
    )
