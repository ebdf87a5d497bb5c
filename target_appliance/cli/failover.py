"""``failover``: a point becomes a running VM of this site's vCenter."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli_edge import edge, emit
from common.errors import EXIT_OK, EXIT_REFUSED, InvalidInputError
from target_appliance.cli.options import AsJson, ReplicaName, Tenant, configured

if TYPE_CHECKING:
    from target_appliance.native.preflight import Finding

_VCENTER = "vcenter"


def add_to(app: typer.Typer) -> None:
    """Hang this command into the tree."""
    app.command("failover")(_failover)


def _failover(  # noqa: PLR0917  a command's options
    context: typer.Context,
    replica: ReplicaName,
    to: Annotated[str, typer.Option("--to", metavar="WHERE", help="vcenter, the one there is.")] = _VCENTER,
    point: Annotated[int | None, typer.Option("--point", metavar="N", help="A point; the newest if left out.")] = None,
    test: Annotated[bool, typer.Option("--test", help="In an isolated network, and removed afterwards.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what stands in the way; change nothing.")] = False,
    clean_up: Annotated[
        bool, typer.Option("--clean-up", help="Remove what an unfinished failover, or with --test a test, made.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the VM of a test running.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read back all that is written, not a sample.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Although a VM of this replica was started already.")] = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Make a VM of a replica's point, encrypted under this site's key provider, and start it.

    Cut off, it goes on when given again. Exit code 3 when something stands in the way.
    """
    with edge(as_json=as_json):
        from common.clock import SystemClock  # noqa: PLC0415
        from common.ids import parse_point  # noqa: PLC0415
        from common.progress import counted  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.native.command import Command, Wish  # noqa: PLC0415

        if to != _VCENTER:
            raise InvalidInputError(
                f"{to!a} is nowhere to fail over to", subject="argument --to", next_step="give --to vcenter"
            )
        config = configured(context)
        wish = Wish(point, test, force, keep, verify)
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            if point is not None:
                held.vault.point(row.tenant, row.replica, parse_point(point))
            command = Command(config, held, row, SystemClock())
            facts = {"point": point, "test": test, "plan": plan, "clean_up": clean_up, "force": force}
            with audited(config, "failover", f"replica {row.replica}", row.tenant, **facts) as told:
                if plan:
                    found = command.plan(wish)
                    told.facts["findings"] = len(found)
                elif clean_up:
                    removed = command.clean_up(test=test)
                else:
                    with counted(f"failover {row.vm_name}", None) as progress:
                        report = command.run(wish, progress)
                    told.facts.update({key: report[key] for key in ("point", "vm", "moref", "written_bytes")})
        if plan:
            emit({"findings": _shown(found)}, _findings(found), as_json=as_json)
            raise typer.Exit(EXIT_REFUSED if any(one.blocks for one in found) else EXIT_OK)
        if clean_up:
            line = "what the failover made is removed" if removed else "nothing was there to remove"
            emit({"removed": removed}, [line], as_json=as_json)
        else:
            emit(report, _lines(report), as_json=as_json)


def _shown(found: "tuple[Finding, ...]") -> list[dict[str, Any]]:
    return [
        {"blocks": one.blocks, "subject": one.subject, "what": one.what, "next_step": one.next_step} for one in found
    ]


def _findings(found: "tuple[Finding, ...]") -> list[str]:
    return [f"{'in the way' if one.blocks else 'note'}: {one}" for one in found] or ["nothing stands in the way"]


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [f"point {report['point']} runs as VM {report['vm']}, {report['written_bytes']} bytes written"]
    for what, key in [("home", report["home_key"]), *((disk["path"], disk["key"]) for disk in report["disks"])]:
        lines.append(f"{what}: key {key['id']} of {key['provider']}")
    if report["test"]:
        lines.append(f"signed result: {report['result']}")
    return [*lines, "the test's VM was removed"] if report["removed"] else lines
