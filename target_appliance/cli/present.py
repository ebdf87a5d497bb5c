"""``present``: a point's disks as read-only network block devices."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli_edge import edge, emit
from target_appliance.cli.options import AsJson, ReplicaName, Tenant, configured

if TYPE_CHECKING:
    from target_appliance.present.live import Live


def add_to(app: typer.Typer) -> None:
    """Hang the command into the tree."""
    app.command("present")(_present)


def _present(  # noqa: PLR0917  a command's options
    context: typer.Context,
    replica: ReplicaName,
    point: Annotated[int | None, typer.Option("--point", metavar="N", help="A point; the newest if left out.")] = None,
    disk: Annotated[
        int | None, typer.Option("--disk", metavar="KEY", help="One disk; all of the point if left out.")
    ] = None,
    socket: Annotated[
        Path | None, typer.Option("--socket", metavar="PATH", help="A Unix socket to make, for this user only.")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="A TCP port, for operators of the tenant, over TLS only."),
    ] = None,
    lasting: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="End after so long, such as 4h; until SIGTERM if left out."),
    ] = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show the disks of a point read-only over NBD, until interrupted; prints where as soon as they can be read."""
    with edge(as_json=as_json):
        from common.address import checked  # noqa: PLC0415
        from common.duration import typed  # noqa: PLC0415
        from common.errors import InvalidInputError  # noqa: PLC0415
        from common.ids import parse_disk_key, parse_point  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.present.callers import Shown  # noqa: PLC0415
        from target_appliance.present.live import chosen_disks  # noqa: PLC0415
        from target_appliance.present.show import Place, show, uri  # noqa: PLC0415

        if (socket is None) == (listen is None):
            raise InvalidInputError(
                "a view is shown at one place", subject="command", next_step="give either --socket or --listen"
            )
        place = Place(socket, None if listen is None else checked(listen, "--listen"))
        seconds = None if lasting is None else typed(lasting, "--for")
        key = None if disk is None else parse_disk_key(disk)
        config = configured(context)
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            shown = Shown(row.tenant, row.replica, parse_point(point if point is not None else row.newest or 0))
            disks = chosen_disks(held.vault, shown, key)
            names = " ".join(map(str, disks))
            with audited(
                config, "present", f"replica {row.replica}", row.tenant, point=shown.point, disks=names, at=str(place)
            ) as told:

                def ready(view: "Live", port: int | None) -> None:
                    exports = [
                        {
                            "name": one.name,
                            "disk": disk,
                            "capacity_bytes": one.capacity_bytes,
                            "uri": uri(place, port, one.name),
                        }
                        for disk, one in zip(disks, view.disks, strict=True)
                    ]
                    result = {"replica": row.replica, "point": shown.point, "exports": exports}
                    lines = [f"{one['uri']}  {one['capacity_bytes']} bytes" for one in exports]
                    emit(result, [f"point {shown.point} of {row.vm_name}, read-only:", *lines], as_json=as_json)

                served = show(config, held, shown, disks, place, seconds=seconds, ready=ready)
                told.facts.update(clients=served.clients, bytes=served.bytes)
