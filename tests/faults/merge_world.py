"""What tests of drops and merges share: small extents, the check of all that is kept, and what leaked."""

from common.grain import GRAIN_BYTES
from target_appliance.recovery import names, points
from target_appliance.recovery.inventory import inventory
from target_appliance.vmdk.layout import TABLE_ENTRIES, extent_capacities
from tests.fakes.replica import REPLICA, TENANT

EXTENT_BYTES = TABLE_ENTRIES * GRAIN_BYTES
FOLDER = names.replica_folder(TENANT, REPLICA)
SETTLED = {
    *(names.REPLICA_FILE, names.POINTS, names.STAGING, names.RESUME, names.RECORDS, names.DROPPED),
    *(names.READING_LOCK, names.RECLAIM_LOCK),
}


def small_extents(patch):
    """Split disks every 32 MiB, in all readers and writers."""
    for module in ("vmdk.layout", "vmdk.reader", "recovery.disk_writer"):
        patch.setattr(f"target_appliance.{module}.EXTENT_MOST_BYTES", EXTENT_BYTES)
    patch.setattr("target_appliance.recovery.disk_writer._EXTENT_GRAINS", TABLE_ENTRIES)
    for module in ("chain", "verify_sealed"):
        patch.setattr(f"target_appliance.recovery.{module}.EXTENT_GRAINS", TABLE_ENTRIES)
    patch.setattr("tests.second_reader.reader.EXTENT", EXTENT_BYTES)


def check_kept(world):
    """Every point that was not dropped reads as the model says, and nothing else is a point."""
    assert world.vault.point_numbers(TENANT, REPLICA) == tuple(sorted(world.model))
    for number, disks in world.model.items():
        for disk in disks:
            assert world.differences(number, disk) == [], (number, disk)
    findings = world.vault.verify(TENANT, REPLICA, with_key=True).findings
    assert findings == (), [str(finding) for finding in findings]


def leaked(store):
    """Names in a replica's folder that nothing kept needs, and that no next step will remove."""
    found = sorted(set(store.names(FOLDER)) - SETTLED)
    have = inventory(store, TENANT, REPLICA)
    found += [f"point {number}" for number in have.unneeded]
    notes = {names.dropped_file(number) for number in have.dropped}
    found += [f"note {name}" for name in store.names(names.dropped_folder(TENANT, REPLICA)) if name not in notes]
    for number in points.folders(store, TENANT, REPLICA):
        expected = {names.RECORD_FILE}
        for disk in have.records[number].disks:
            key = disk.spec.key
            if (number, key) not in have.needed:
                continue
            count = len(extent_capacities(disk.spec.capacity_bytes))
            expected |= {names.disk_file(key), names.manifest_file(key), names.digests_file(key)}
            expected |= {names.extent_file(key, place, count) for place in range(1, count + 1)}
            expected |= {names.absorbed_manifest(key, one) for one in have.absorbed(number, key)}
        here = store.names(names.point_folder(TENANT, REPLICA, number))
        found += [f"{number}/{name}" for name in set(here) - expected]
    return found
