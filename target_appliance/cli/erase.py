"""``tenants erase`` and ``keys check-receipt``: a tenant that leaves, and what proves it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from common.cli_edge import edge, emit, say
from target_appliance.cli.key_life import keys
from target_appliance.cli.options import AsJson, configured, confirmed
from target_appliance.cli.set_up import tenants


def add_to(_app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    tenants.command("erase")(_erase)
    keys.command("check-receipt")(_check_receipt)


def _erase(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant.")],
    *,
    receipt: Annotated[Path, typer.Option("--receipt", metavar="FILE", help="Gets the signed receipt; a new file.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the tenant's name again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Destroy a tenant's keys at its KMS, for good, and remove everything of the tenant's; goes on where it was cut.

    No copy of the store opens the tenant's points afterwards. Syncs under way end first, which takes a minute or two.
    """

    def waiting(count: int) -> None:
        if not as_json:
            say(f"waiting for {count} syncs of tenant {name} to end")

    with edge(as_json=as_json):
        from common.clock import SystemClock  # noqa: PLC0415
        from common.ids import parse_tenant  # noqa: PLC0415
        from target_appliance import admission, at_rest  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.identity.signing import Signer  # noqa: PLC0415
        from target_appliance.keys.erase import Eraser  # noqa: PLC0415

        config, clock, tenant = configured(context), SystemClock(), parse_tenant(name)
        with at_rest.opened(config) as held, admission.opened(config) as admitted:
            signer = Signer(held.authority, clock)
            eraser = Eraser(held.vault, admitted, signer, clock)
            if eraser.known(tenant):
                confirmed(name, f"destroy the keys and all points of tenant {name}, for good", yes=yes)
            with audited(config, "tenants erase", f"tenant {name}", name) as told:
                body = eraser.erase(tenant, receipt, waiting)
                told.facts.update(keks=len(body["keks"]), replicas=body["replicas"], points=body["points"])
        emit(body, [*_lines(body), f"wrote the receipt {receipt}"], as_json=as_json)


def _check_receipt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The receipt.")],
    *,
    ca: Annotated[Path, typer.Option("--ca", metavar="FILE", help="The appliance's authority: its ca.crt.")],
    as_json: AsJson = False,
) -> None:
    """Check a receipt of an erasure, anywhere: who signed it, and that nothing in it was altered."""
    with edge(as_json=as_json):
        from target_appliance.audit.heads import certificate, read_file  # noqa: PLC0415
        from target_appliance.identity.signing import check, fingerprint_of  # noqa: PLC0415
        from target_appliance.keys.erase import RECEIPT  # noqa: PLC0415

        signed = check(read_file(file), RECEIPT, {fingerprint_of(certificate(ca))})
        lines = [f"signed {signed.time:%Y-%m-%d %H:%M} UTC; not altered since", *_lines(signed.body)]
        emit({"signed": signed.time.isoformat(), **signed.body}, lines, as_json=as_json)


def _lines(body: dict[str, Any]) -> list[str]:
    return [
        f"tenant {body['tenant']}: {body['replicas']} replicas, {body['points']} points, {body['data_keys']} data keys",
        *(f"key {kek['kek']} is {kek['state']} at {kek['kms']}" for kek in body["keks"]),
    ]
