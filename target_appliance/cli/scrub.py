"""``scrub``: look at stored points now, and tell what state all of them are in."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli_edge import edge, emit, table
from common.errors import EXIT_DAMAGED, EXIT_OK, EXIT_TRY_LATER
from target_appliance.cli.options import AsJson, Tenant, configured

if TYPE_CHECKING:
    from target_appliance.catalog.model import ScrubRow


def add_to(app: typer.Typer) -> None:
    """Hang this command into the tree."""
    app.command("scrub")(_scrub)


def _scrub(
    context: typer.Context,
    replica: Annotated[str | None, typer.Argument(metavar="REPLICA", help="Only this one; all if left out.")] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look at every point once, not only at those that are due.")
    ] = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Read points that were not read for long, and tell which are good, corrupt, missing or unreachable.

    A look that is interrupted goes on where it was last noted. Exit code 6 when a point is corrupt or missing, 5 when
    one could not be read.
    """
    with edge(as_json=as_json):
        import threading  # noqa: PLC0415

        from common.clock import SystemClock  # noqa: PLC0415
        from common.errors import InvalidInputError  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audit_log, audited  # noqa: PLC0415
        from target_appliance.scrub.background import announce, due, event  # noqa: PLC0415
        from target_appliance.scrub.budget import Budget  # noqa: PLC0415
        from target_appliance.scrub.choice import Due  # noqa: PLC0415
        from target_appliance.scrub.scrubber import Changed, Scrubber  # noqa: PLC0415

        if replica is None and tenant is not None:
            raise InvalidInputError(
                "--tenant tells replicas of one name apart", subject="tenant", next_step="name a replica as well"
            )
        config, clock = configured(context), SystemClock()
        with opened(config) as held:
            row = None if replica is None else held.find_replica(replica, tenant)
            only = None if row is None else (row.tenant, row.replica)
            about = "appliance" if row is None else f"replica {row.replica}"
            with audited(config, "scrub", about, None if row is None else row.tenant, once=once) as told:
                log = audit_log(config)

                def changed(one: Changed) -> None:
                    announce(one)
                    log.append(event(one, log.who.role, log.who.actor))

                budget = Budget(config.scrub, clock, threading.Event(), any_time=True)
                scrubber = Scrubber(
                    held.vault,
                    held.catalog,
                    clock,
                    pace=budget.spend,
                    with_key=config.scrub.with_key,
                    told=changed,
                )
                looked = [
                    scrubber.look(key) for key in scrubber.due(Due(0, 0, 0, 0) if once else due(config.scrub), only)
                ]
                rows = [one for one in held.catalog.scrubs() if only in {None, (one.tenant, one.replica)}]
                bad = [one for one in rows if one.state not in {None, "good"}]
                told.facts.update(points=len(looked), bad=len(bad))
        emit(
            {"looked": len(looked), "points": [_point(one) for one in rows]}, _lines(len(looked), rows), as_json=as_json
        )
        states = {one.state for one in bad}
        raise typer.Exit(EXIT_DAMAGED if states - {"unreachable"} else EXIT_TRY_LATER if states else EXIT_OK)


def _point(row: "ScrubRow") -> dict[str, Any]:
    return {
        "tenant": row.tenant,
        "replica": row.replica,
        "point": row.number,
        "state": row.state,
        "checked": row.checked,
        "with_key": row.with_key,
        "what": row.what,
    }


def _lines(looked: int, rows: "list[ScrubRow]") -> list[str]:
    bad = [row for row in rows if row.state not in {None, "good"}]
    verdict = f"{looked} points looked at; of {len(rows)} that were ever, {len(bad)} are not good"
    if not bad:
        return [verdict]
    cells = [(row.tenant, row.replica, str(row.number), row.state or "", row.what) for row in bad]
    return [*table(("tenant", "replica", "point", "state", "what"), cells), verdict]
