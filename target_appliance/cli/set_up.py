"""``init``, ``serve`` and ``tenants``: what an operator does before agents come."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from common.cli_edge import edge, emit
from target_appliance.cli.options import AsJson, configured
from target_appliance.cli.pairing import VALID, Address, Valid, print_offer

tenants = typer.Typer(no_args_is_help=True, help="Register tenants and give their agents certificates.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.command("init")(_init)
    app.command("serve")(_serve)
    app.add_typer(tenants, name="tenants")


def _init(context: typer.Context, as_json: AsJson = False) -> None:
    """Make this appliance: its folders, its certificate authority, its catalog, and a look at its KMS.

    Run it once. It leaves an appliance that is there already alone.
    """
    with edge(as_json=as_json):
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.set_up import initialise  # noqa: PLC0415

        config = configured(context)
        made = initialise(config)
        with audited(config, "init"):
            pass  # there was no log before
        kms = f"{made.kms} is ready" if made.kms_trouble is None else f"WARNING: {made.kms_trouble}"
        lines = [
            f"certificate authority of {config.trust_domain}: {config.authority_dir}",
            f"server certificate for {', '.join(config.listen.names)}",
            f"catalog: {made.catalog}",
            f"store: {config.store_dir}",
            f"KMS: {kms}",
            (
                "next: register a tenant with target-appliance tenants add NAME, "
                "then start the appliance with target-appliance serve"
            ),
        ]
        emit(made.to_json(), lines, as_json=as_json)


def _serve(context: typer.Context) -> None:
    """Receive syncs until interrupted."""
    with edge(as_json=False):
        from target_appliance.appliance import serve  # noqa: PLC0415

        serve(configured(context))


@tenants.command("add")
def _add(  # noqa: PLR0917  a command's options
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and inner hyphens.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Write agent.crt, agent.key and ca.crt there; no line is printed."
        ),
    ] = None,
    valid: Valid = VALID,
    address: Address = None,
    kms: Annotated[
        str | None,
        typer.Option("--kms", metavar="NAME", help="The tenant's KMS: a [kms_named.NAME] of the configuration."),
    ] = None,
    kek: Annotated[
        str | None, typer.Option("--kek", metavar="ID", help="The tenant's key, which is at the KMS already.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register a tenant and print a pairing line for one of its agents.

    The line is a secret that works once: hand it over on a channel you trust. agents add makes one for another agent.
    """
    with edge(as_json=as_json):
        config = configured(context)
        if kms is not None or kek is not None:
            from target_appliance.tenant_key import choose_key  # noqa: PLC0415

            choose_key(config, name, kms, kek)
        if out is None:
            print_offer(config, name, valid, address, may_be_new=True, as_json=as_json)
            return
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.set_up import add_tenant  # noqa: PLC0415

        with audited(config, "tenants add", f"tenant {name}", name) as told:
            added = add_tenant(config, name, out)
            told.facts["agent"] = added.agent
        what = "registered tenant" if added.new else "tenant was registered before:"
        lines = [
            f"{what} {added.tenant}",
            f"agent {added.agent}, certificate valid until {added.not_after:%Y-%m-%d}",
            f"wrote {out / 'agent.crt'}, {out / 'agent.key'} (private) and {out / 'ca.crt'}",
            (
                "next: copy the three files to the agent's machine, to where [target] in its agent.toml names them, "
                "and remove agent.key here"
            ),
        ]
        emit(added.to_json(), lines, as_json=as_json)


@tenants.command("list")
def _list(context: typer.Context, as_json: AsJson = False) -> None:
    """List tenants and their agents."""
    with edge(as_json=as_json):
        from common.cli_edge import table  # noqa: PLC0415
        from target_appliance.set_up import list_tenants  # noqa: PLC0415

        found = list_tenants(configured(context))
        rows = [
            (row["tenant"], agent["role"], agent["agent"], agent["not_after"], _standing(row, agent))
            for row in found
            for agent in row["agents"]
        ]
        rows += [(row["tenant"], "none", "", "", _standing(row, {})) for row in found if not row["agents"]]
        head = ("tenant", "role", "id", "certificate until", "standing")
        emit({"tenants": found}, table(head, sorted(rows)), as_json=as_json)


def _standing(tenant: Mapping[str, Any], agent: Mapping[str, Any]) -> str:
    if agent.get("revoked"):
        return "revoked"
    return "suspended" if tenant["suspended"] else "let in"
