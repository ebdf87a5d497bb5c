"""``points apply-retention``: what no rule keeps is dropped now."""

import typer

from common.cli_edge import edge, emit
from target_appliance.cli.options import AsJson, Tenant, configured
from target_appliance.cli.points import AllOr, chosen, points


def add_to(_app: typer.Typer) -> None:
    """Hang the command into the tree."""
    points.command("apply-retention")(_apply)


def _apply(context: typer.Context, replica: AllOr = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Drop what no rule keeps, now; the serving appliance does it once an hour. See plan-retention for what that is."""
    with edge(as_json=as_json):
        import threading  # noqa: PLC0415

        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audit_log, audited  # noqa: PLC0415
        from target_appliance.retention.prune import Pruner  # noqa: PLC0415

        found, lines = [], []
        config = configured(context)
        log = audit_log(config)

        with opened(config) as held:
            pruner = Pruner(held.vault, held.catalog, log.append, log.who, threading.Event().wait)
            rows = chosen(held, replica, tenant)
            for row in rows:
                with audited(config, "points apply-retention", f"replica {row.replica}", row.tenant) as told:
                    dropped = pruner.apply(row.tenant, row.replica)
                    told.facts["dropped"] = len(dropped)
                points_gone = [{"point": one.number, "reasons": list(one.reasons)} for one in dropped]
                found.append({"tenant": row.tenant, "vm": row.vm_name, "replica": row.replica, "dropped": points_gone})
                lines += [f"dropped point {one.number} of {row.vm_name}: {'; '.join(one.reasons)}" for one in dropped]
        total = sum(len(one["dropped"]) for one in found)
        emit({"replicas": found}, [*lines, f"{total} points of {len(rows)} replicas were dropped"], as_json=as_json)
