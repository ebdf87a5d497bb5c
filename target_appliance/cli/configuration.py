"""``configuration``: what a VM was besides its disks."""

from typing import TYPE_CHECKING

import typer

from common.cli_edge import edge, emit
from target_appliance.cli.options import AsJson, ReplicaName, Tenant, configured
from target_appliance.cli.recovery import PointOption

if TYPE_CHECKING:
    from common.vm_configuration import VmConfiguration


def add_to(app: typer.Typer) -> None:
    """Hang this command into the tree."""
    app.command("configuration")(_configuration)


def _configuration(
    context: typer.Context,
    replica: ReplicaName,
    point: PointOption = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show what the VM was besides its disks when a point was taken: processors, memory, firmware, networks."""
    with edge(as_json=as_json):
        from common.errors import NotFoundError  # noqa: PLC0415
        from common.ids import parse_point  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.recovery import vm_file  # noqa: PLC0415

        config = configured(context)
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            number = parse_point(point if point is not None else row.newest or 0)
            with audited(config, "configuration", f"replica {row.replica}", row.tenant, point=number):
                found = vm_file.read(held.vault.store, held.vault.keyring, row.tenant, row.replica, number)
        if found is None:
            raise NotFoundError(
                f"point {number} does not hold the VM's configuration",
                subject=f"replica {row.replica}",
                next_step="name a point that an agent of this release made; seeds and earlier agents tell none",
            )
        result = {"replica": row.replica, "vm": row.vm_name, "point": number, "configuration": found.as_members()}
        emit(result, _lines(row.vm_name, number, found), as_json=as_json)


def _lines(name: str, point: int, found: "VmConfiguration") -> list[str]:
    firmware = f"{found.firmware or 'unknown firmware'}{', secure boot' if found.secure_boot else ''}"
    processors = f"{found.cpus} processors ({found.cores_per_socket} a socket), {found.memory_mib} MiB"
    guest = f"{found.guest_id or 'unknown guest'}, hardware version {found.hardware_version}"
    lines = [f"{name} at point {point}: {guest}, {processors}, {firmware}{', with a TPM' if found.vtpm else ''}"]
    for controller in found.controllers:
        shared = ", shared" if controller.shared else ""
        lines.append(f"controller {controller.key}: {controller.kind}, bus {controller.bus}{shared}")
    lines += [f"disk {disk.key}: controller {disk.controller}, unit {disk.unit}" for disk in found.disks]
    for nic in found.nics:
        network = f"{nic.network_kind} network {nic.network}" if nic.network_kind else "no network that is known"
        connected = "connected" if nic.connected else "not connected"
        lines.append(
            f"network card {nic.key}: {nic.kind}, {network}, {nic.mac or 'no address'}, {connected} at power on"
        )
    order = [f"{one.kind} {one.key}" if one.key else one.kind for one in found.boot_order]
    return lines + ([f"boots from {', '.join(order)}"] if order else [])
