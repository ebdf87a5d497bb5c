"""``evidence``: a signed report for an auditor, made here and checked anywhere."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from common.cli_edge import edge, emit
from target_appliance.cli.options import AsJson, configured

_MAKE = "make"


class _MakeByDefault(TyperGroup):
    """``evidence TENANT …`` is ``evidence make TENANT …``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See click."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [_MAKE, *args]
        return super().resolve_command(ctx, args)


_evidence = typer.Typer(cls=_MakeByDefault, no_args_is_help=True, help="A signed report for an auditor.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(_evidence, name="evidence")


@_evidence.command(_MAKE)
def _make(  # noqa: PLR0917  a command's options
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose points, keys and syncs it is about.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The report; a page to read gets .html instead.")],
    point: Annotated[
        int | None, typer.Option("--point", metavar="N", help="This point and what it stands on; all if left out.")
    ] = None,
    replica: Annotated[
        str | None, typer.Option("--replica", metavar="R", help="Its id, or the VM's name; all if left out.")
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option("--source", metavar="FILE", help="From source-agent evidence; may be repeated."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option("--also", metavar="PATH", help="Look through this too, such as the log; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a signed report on a tenant: syncs, keys, points, and what was looked for and where.

    With --source every byte that the appliance holds is read, at some 100 MiB a second.
    """
    with edge(as_json=as_json):
        import hashlib  # noqa: PLC0415
        import json  # noqa: PLC0415

        from common.clock import SystemClock  # noqa: PLC0415
        from common.ids import parse_point, parse_tenant  # noqa: PLC0415
        from common.private_file import PUBLIC, write_file  # noqa: PLC0415
        from common.progress import counted  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.evidence import absence, page, report  # noqa: PLC0415

        shown = _free(out)
        config, clock = configured(context), SystemClock()
        owner = parse_tenant(tenant)
        sources = [absence.read_source(path) for path in source or ()]
        paths = tuple(also or ())
        total = report.to_look_through(config, paths) * len(sources)
        with audited(config, "evidence", f"tenant {owner}", owner) as told, opened(config) as held:
            wanted = report.Wanted(
                owner,
                None if replica is None else held.find_replica(replica, owner).replica,
                None if point is None else parse_point(point),
                sources,
                paths,
            )
            with counted("evidence", total) as progress:
                content = report.make(config, held, wanted, clock, progress)
            told.facts["sha256"] = digest = hashlib.sha256(content).hexdigest()
        write_file(out, content, mode=PUBLIC)
        write_file(shown, page.render(content), mode=PUBLIC)
        body = json.loads(content)["body"]
        result = {
            "file": str(out),
            "page": str(shown),
            "sha256": digest,
            "authority": body["appliance"]["authority"],
            "checked": body["absence"]["checked"],
            "found": body["absence"]["found"],
            "windows": body["absence"]["windows"],
            "risks": body["risks"],
        }
        emit(result, _told(body, [f"{out}, and to read: {shown}"]), as_json=as_json)


def _free(out: Path) -> Path:
    """Where the page goes; told before anything is read, which may take hours."""
    from common.errors import AlreadyExistsError, InvalidInputError  # noqa: PLC0415

    shown = out.with_suffix(".html")
    if shown == out:
        raise InvalidInputError(
            f"{out} is where the page would go", subject=f"file {out}", next_step="give the report another name: .json"
        )
    for path in (out, shown):
        if path.exists():
            raise AlreadyExistsError(
                f"{path} exists", subject=f"file {path}", next_step="move it away first, or choose another place"
            )
    return shown


@_evidence.command("check")
def _check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The report.")],
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="The authority's certificate, from the appliance.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="HEX", help="Or its SHA-256 fingerprint.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a report offline: the signature, who signed it, and that the page beside it says the same.

    Needs no configuration and no appliance. Exit code 6: the report was altered; 3: another authority signed it.
    """
    with edge(as_json=as_json):
        from common.errors import DamagedError, InvalidInputError  # noqa: PLC0415
        from target_appliance.audit.heads import certificate, read_file  # noqa: PLC0415
        from target_appliance.evidence import page, report  # noqa: PLC0415
        from target_appliance.identity.signing import check, fingerprint_of  # noqa: PLC0415

        if (ca is None) == (fingerprint is None):
            raise InvalidInputError(
                "a report is checked against one authority",
                subject="argument --ca",
                next_step="give either --ca FILE or --fingerprint HEX, as the appliance's operator told you",
            )
        wanted = fingerprint_of(certificate(ca)) if ca is not None else str(fingerprint).replace(":", "").lower()
        content = read_file(file)
        signed = check(content, report.KIND, [wanted])
        shown = file.with_suffix(".html")
        if shown != file and shown.exists() and read_file(shown) != page.render(content):
            raise DamagedError(
                f"{shown} does not say what {file} says", subject=f"file {shown}", next_step="believe the report only"
            )
        result = {
            "authentic": True,
            "signed": signed.time.isoformat(),
            "tenant": signed.body["tenant"],
            "authority": wanted,
            "page": str(shown) if shown.exists() else None,
            "risks": signed.body["risks"],
        }
        lines = [f"{file} is what the appliance of {signed.body['appliance']['trust_domain']} signed at {signed.time}"]
        emit(result, _told(signed.body, lines), as_json=as_json)


def _told(body: dict[str, Any], lines: list[str]) -> list[str]:
    absence = body["absence"]
    if absence["checked"]:
        size = sum(place["bytes"] for place in absence["places"])
        compared = f"{size} bytes, {absence['windows']} windows compared"
        lines.append(f"names of the source's keys: {absence['found']} found in {compared}")
    lines += [f"{risk['severity']}: {risk['what']}" for risk in body["risks"]]
    return [*lines, *([] if body["risks"] else ["no open risks"])]
