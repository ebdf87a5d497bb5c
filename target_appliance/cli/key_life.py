"""``keys``: status, rotate-kek, destroy-old, rotate-dek, reveal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli_edge import edge, emit, say, table
from target_appliance.cli.options import AsJson, ReplicaName, Tenant, configured, confirmed

if TYPE_CHECKING:
    from target_appliance.keys.status import KeyStatus

keys = typer.Typer(no_args_is_help=True, help="Keys of tenants and replicas: looked at, rotated, revealed.")

_TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant.")]


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    keys.command("status")(_status)
    keys.command("rotate-kek")(_rotate_kek)
    keys.command("destroy-old")(_destroy_old)
    keys.command("rotate-dek")(_rotate_dek)
    keys.command("reveal")(_reveal)
    app.add_typer(keys, name="keys")


def _status(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Argument(metavar="TENANT", help="Only this one's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show each tenant's key: where it lies, its state, its age, what is wrapped under it, what is left to do."""
    with edge(as_json=as_json):
        from common.clock import SystemClock  # noqa: PLC0415
        from common.ids import parse_tenant  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.keys.status import key_status  # noqa: PLC0415
        from target_appliance.seal.secret import MEMORY  # noqa: PLC0415

        with opened(configured(context)) as held:
            wanted = held.vault.tenants() if tenant is None else (held.catalog.tenant(parse_tenant(tenant)).tenant,)
            found = [key_status(held.vault, one, SystemClock()) for one in wanted]
        probe = MEMORY.hold(bytes(32))
        usage = MEMORY.usage()
        del probe
        locked = usage.locked_bytes == usage.bytes
        headings = ("tenant", "kms", "key", "state", "days", "left", "wraps", "DEKs", "retired")
        lines = table(headings, [_row(status) for status in found])
        lines += [f"{status.tenant}: {status.advice}" for status in found if status.advice]
        if not locked:
            lines.append("memory of keys cannot be locked here: use encrypted swap or none, or raise LimitMEMLOCK")
        result = {"tenants": [status.to_json() for status in found], "key_memory_locked": locked}
        emit(result, lines, as_json=as_json)


def _rotate_kek(
    context: typer.Context,
    tenant: _TenantName,
    *,
    destroy_old: Annotated[
        bool,
        typer.Option("--destroy-old", help="Then destroy the older keys at the KMS for good."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a tenant a new key at its KMS, and wrap its data keys under it; goes on where a run was cut.

    The appliance may serve meanwhile, and syncs run. Points stay as they are, to the byte.
    """
    with edge(as_json=as_json):
        from common.ids import parse_tenant  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.keys.rotate import rotate_kek  # noqa: PLC0415

        def progress(done: int, of: int) -> None:
            if not as_json and (done % 100 == 0 or done == of):
                say(f"{done} of {of} replicas")

        config = configured(context)
        with (
            audited(config, "keys rotate-kek", f"tenant {tenant}", tenant, destroy_old=destroy_old) as told,
            opened(config) as held,
        ):
            name = held.catalog.tenant(parse_tenant(tenant)).tenant
            done = rotate_kek(held.vault, name, destroy_old=destroy_old, progress=progress)
            told.facts.update(kek=done.kek.kek_id, wrapped=done.wrapped, destroyed=len(done.destroyed))
        lines = [
            f"tenant {done.tenant}: {done.wrapped} data keys in {done.replicas} replicas wrapped by {done.kek.kek_id}"
            + (", going on with a rotation that was cut" if done.went_on else "")
        ]
        lines += [f"destroyed {kek.kek_id}" for kek in done.destroyed]
        advice = f"keys destroy-old {done.tenant} destroys it"
        lines += [f"{kek.kek_id} is needed by nothing: {advice}" for kek in done.retired]
        emit(done.to_json(), lines, as_json=as_json)


def _destroy_old(context: typer.Context, tenant: _TenantName, as_json: AsJson = False) -> None:
    """Destroy a tenant's older keys at its KMS, for good, after a rotation that kept them; makes no new one.

    Copies of the store from before the rotation do not open afterwards.
    """
    with edge(as_json=as_json):
        from common.ids import parse_tenant  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.keys.rotate import destroy_retired  # noqa: PLC0415

        config = configured(context)
        with audited(config, "keys destroy-old", f"tenant {tenant}", tenant) as told, opened(config) as held:
            name = held.catalog.tenant(parse_tenant(tenant)).tenant
            destroyed = destroy_retired(held.vault, name)
            told.facts.update(destroyed=len(destroyed))
        lines = [f"destroyed {kek.kek_id}" for kek in destroyed] or [f"tenant {name} has no older key"]
        emit({"tenant": name, "destroyed": [kek.kek_id for kek in destroyed]}, lines, as_json=as_json)


def _rotate_dek(context: typer.Context, replica: ReplicaName, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Give each disk of a replica a new data key: its next sync begins a new chain, in full.

    Points that are there keep their keys, and open as before.
    """
    with edge(as_json=as_json):
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        with audited(config, "keys rotate-dek", f"replica {replica}", tenant) as told, opened(config) as held:
            row = held.find_replica(replica, tenant)
            epochs = held.vault.keyring.rotate_dek(row.tenant, row.replica)
            told.facts.update(of_tenant=row.tenant, replica=row.replica, disks=len(epochs))
        lines = [f"disk {disk}: epoch {epoch} from the next sync on, in full" for disk, epoch in epochs.items()]
        result = {
            "tenant": row.tenant,
            "replica": row.replica,
            "disks": [{"disk": disk, "epoch": epoch} for disk, epoch in epochs.items()],
        }
        emit(result, lines, as_json=as_json)


def _reveal(
    context: typer.Context,
    replica: ReplicaName,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new file, which only this user may read.")],
    tenant: Tenant = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the replica's name again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a replica's data keys to a file, in the clear: for reading its points without Keysapart.

    Whoever has that file and the store reads everything that the replica holds. docs/format.md says how.
    """
    with edge(as_json=as_json):
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.keys.reveal import reveal  # noqa: PLC0415

        config = configured(context)
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            confirmed(replica, f"write the data keys of {row.vm_name} ({row.replica}) in the clear", yes=yes)
            facts = {"replica": row.replica, "file": str(out)}
            with audited(config, "keys reveal", f"replica {row.replica}", row.tenant, **facts):
                count = reveal(held.vault, row.tenant, row.replica, out)
        lines = [f"wrote {count} data keys to {out}: keep it like the VM itself, and remove it when it is not needed"]
        result = {"tenant": row.tenant, "replica": row.replica, "count": count, "file": str(out)}
        emit(result, lines, as_json=as_json)


def _row(status: "KeyStatus") -> tuple[str, ...]:
    days, left = (("?" if value is None else str(value)) for value in (status.age_days, status.days_left))
    kms, kek = status.kms or "default", status.kek or "none yet"
    retired = ", ".join(status.retired) or "-"
    return status.tenant, kms, kek, status.state or "?", days, left, str(status.wraps), str(status.epochs), retired
