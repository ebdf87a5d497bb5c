"""``audit``: look at the audit log, check it, and export its head."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli_edge import edge, emit, table
from common.errors import EXIT_DAMAGED, EXIT_OK
from target_appliance.cli.options import AsJson, configured

if TYPE_CHECKING:
    from target_appliance.audit.check import Verdict

_audit = typer.Typer(no_args_is_help=True, help="The log of who did what, which only grows.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(_audit, name="audit")


@_audit.command("verify")
def _verify(
    context: typer.Context,
    head: Annotated[
        list[Path] | None, typer.Option("--head", metavar="FILE", help="A head exported earlier; may be repeated.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="Certificate of an earlier authority that signed heads.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every line; name the first that was altered, is missing, or stands elsewhere.

    Without --head, a log that was cut at its end or written anew as a whole cannot be told from a true one.
    Exit code 6 when something is wrong.
    """
    with edge(as_json=as_json):
        from common.clock import SystemClock  # noqa: PLC0415
        from target_appliance.audit import check, heads  # noqa: PLC0415
        from target_appliance.identity.authority import Authority  # noqa: PLC0415

        config = configured(context)
        known = []
        if head:
            trust = Authority.open(config.authority_dir, config.trust_domain, SystemClock()).trust
            known = [heads.from_file(path, trust, ca) for path in head]
        verdict = check.verify(config.audit_dir, known)
        emit(_told(verdict), _lines(verdict, len(known)), as_json=as_json)
        raise typer.Exit(EXIT_OK if verdict.trouble is None else EXIT_DAMAGED)


def _told(verdict: "Verdict") -> dict[str, Any]:
    return {
        "intact": verdict.trouble is None,
        "trouble": verdict.trouble,
        "file": verdict.place and verdict.place.file,
        "line": verdict.place and verdict.place.line,
        "files": verdict.files,
        "first": verdict.first,
        "sequence": verdict.head and verdict.head.sequence,
        "digest": verdict.head and verdict.head.digest,
        "healed": [str(place) for place in verdict.healed],
        "torn": verdict.torn,
    }


def _lines(verdict: "Verdict", heads: int) -> list[str]:
    lines = [
        f"{place} was cut while it was the last line, as crashes do; the line after it says so"
        for place in verdict.healed
    ]
    if verdict.torn:
        lines.append("the log ends in the middle of a line, which a crash does; the next event heals it")
    if verdict.trouble is not None:
        return [*lines, f"{verdict.place or 'audit log'}: {verdict.trouble}", "the audit log is DAMAGED"]
    if verdict.head is None:
        return [*lines, "the audit log is empty"]
    given = "the head" if heads == 1 else f"the {heads} heads"
    agrees = f", and agrees with {given} given" if heads else "; no head was given to hold it against"
    span = f"lines {verdict.first} to {verdict.head.sequence} in {verdict.files} files"
    return [*lines, f"the audit log is what was written: {span}{agrees}", f"head: {verdict.head.digest}"]


@_audit.command("head")
def _head(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there, signed; keep that elsewhere.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the newest line's number and digest, which vouch for all lines before."""
    with edge(as_json=as_json):
        from common.clock import SystemClock  # noqa: PLC0415
        from common.errors import NotFoundError  # noqa: PLC0415
        from common.private_file import PUBLIC, write_file  # noqa: PLC0415
        from target_appliance.audit import heads  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.audit.log import AuditLog  # noqa: PLC0415
        from target_appliance.identity.authority import Authority  # noqa: PLC0415
        from target_appliance.identity.signing import Signer  # noqa: PLC0415

        config, clock = configured(context), SystemClock()
        head = AuditLog(config.audit_dir, clock).head()
        if head is None:
            raise NotFoundError(
                "the audit log is empty", subject="audit log", next_step="come back when something has happened"
            )
        if out is not None:
            authority = Authority.open(config.authority_dir, config.trust_domain, clock)
            with audited(config, "audit head", "audit log", exported=head.sequence):
                write_file(out, heads.to_file(head, Signer(authority, clock)), mode=PUBLIC)
        result = {"sequence": head.sequence, "digest": head.digest, "file": out and str(out)}
        lines = [f"line {head.sequence}, digest {head.digest}", *([] if out is None else [f"signed: {out}"])]
        emit(result, lines, as_json=as_json)


@_audit.command("show")
def _show(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="About this tenant only.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="From then on, such as 2026-11-24 or 2026-11-24T12:00."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print events, oldest first. Does not check them; verify does."""
    with edge(as_json=as_json):
        from common.ids import parse_tenant  # noqa: PLC0415
        from target_appliance.audit.check import read  # noqa: PLC0415

        wanted = None if tenant is None else parse_tenant(tenant)
        start = "" if since is None else _time(since)
        events = [
            raw.line.members
            for raw in read(configured(context).audit_dir)
            if raw.line is not None
            and raw.line.members.get("time", "") >= start
            and wanted in {None, raw.line.members.get("tenant")}
        ]
        columns = ("sequence", "time", "role", "tenant", "actor", "what", "object", "outcome")
        rows = [[str(one.get(column) or "-") for column in columns] for one in events]
        emit({"events": events}, table(columns, rows), as_json=as_json)


def _time(text: str) -> str:
    from common.errors import InvalidInputError  # noqa: PLC0415

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(
            f"{text[:80]!a} is no time", subject="argument --since", next_step="give one such as 2026-11-24T12:00"
        ) from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
