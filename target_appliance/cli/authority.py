"""``ca``: the appliance's certificate authority: how long it lasts, and its change."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli_edge import edge, emit, table
from target_appliance.cli.options import AsJson, configured

if TYPE_CHECKING:
    from target_appliance.config import ApplianceConfig
    from target_appliance.identity.authority import Authority

_ca = typer.Typer(no_args_is_help=True, help="The appliance's certificate authority.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(_ca, name="ca")


@_ca.command("status")
def _status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the authorities that count, the server's certificate, and who has still to renew."""
    with edge(as_json=as_json):
        config = configured(context)
        told = _told(_opened(config), config)
        rows = [("authority" if one["issues"] else "earlier", *_cells(one)) for one in told["authorities"]]
        rows.append(("server", *_cells(told["server"])))
        lines = table(("certificate", "until", "days left", "sha256"), rows)
        lines += [f"warning: {text}" for text in told["warnings"]]
        if told["unrenewed"]:
            lines.append(f"still with a certificate of an earlier authority: {', '.join(told['unrenewed'])}")
        emit(told, lines, as_json=as_json)


@_ca.command("rotate")
def _rotate(context: typer.Context, as_json: AsJson = False) -> None:
    """Put a new authority in place of this one, which counts until retire. Works while the appliance serves."""
    with edge(as_json=as_json):
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        authority = _opened(config)
        with audited(config, "ca rotate", "authority") as said:
            authority.rotate()
            said.facts["authority_sha256"] = authority.fingerprint.hex()
        lines = [
            f"new authority {authority.fingerprint.hex()}; the earlier one counts until it is retired",
            (
                "next: agents renew by themselves; when target-appliance ca status names none any more, "
                "target-appliance ca retire"
            ),
        ]
        emit(_told(authority, config), lines, as_json=as_json)


@_ca.command("retire")
def _retire(
    context: typer.Context,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Although callers still have certificates of it; they must pair again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let earlier authorities count no more. Works while the appliance serves."""
    with edge(as_json=as_json):
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        authority = _opened(config)
        with audited(config, "ca retire", "authority", force=force) as said:
            gone = authority.retire(force=force)
            said.facts["authorities"] = len(gone)
        emit(_told(authority, config), [f"{len(gone)} earlier authorities count no more"], as_json=as_json)


def _opened(config: "ApplianceConfig") -> "Authority":
    from common.clock import SystemClock  # noqa: PLC0415
    from target_appliance.identity.authority import Authority  # noqa: PLC0415

    return Authority.open(config.authority_dir, config.trust_domain, SystemClock())


def _told(authority: "Authority", config: "ApplianceConfig") -> dict[str, Any]:
    from common.clock import SystemClock  # noqa: PLC0415
    from target_appliance.identity.outlook import outlook  # noqa: PLC0415

    return outlook(authority, config.listen.names, SystemClock().now()).to_json()


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    return (one["not_after"][:10], str(one["days_left"]), one["sha256"])
