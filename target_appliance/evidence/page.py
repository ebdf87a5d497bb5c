"""The report as a page for people: one file, no scripts, nothing loaded from elsewhere. Pure.

The page repeats what the signed report says and is not signed itself; ``evidence check`` compares the two.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

_STYLE: Final = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1b2430;background:#fff;max-width:62rem;margin:2rem auto;padding:0 1.5rem}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid #c9d1da}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{text-align:left;vertical-align:top;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #e6eaee}
th{font-weight:600;color:#48566a}table.facts th{width:14rem}
code{font:12.5px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
.lead{color:#48566a;margin:0 0 1rem}
.verdict{border-left:.4rem solid;padding:.6rem 1rem;margin:1rem 0;background:#f5f7f9}
.good{border-color:#1a7f4b}.medium{border-color:#b7791f}.bad{border-color:#b42318}
.tag{display:inline-block;min-width:4.5rem;font-weight:600}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}
"""

Row = Sequence[Any]


def render(content: bytes) -> bytes:
    """The page for a report, which was checked before."""
    document = json.loads(content)
    body = document["body"]
    parts = [
        _head(document, body),
        _verdict(body),
        _risks(body),
        _absence(body),
        _transport(body),
        _at_rest(body),
        *(_replica(replica) for replica in body["replicas"]),
        _agents(body),
        _audit(body),
        _how(body, hashlib.sha256(content).hexdigest()),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Evidence: {escape(body['tenant'])}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    ).encode()


def _head(document: Any, body: Any) -> str:
    scope = body["scope"]
    about = "all replicas" if scope["replica"] is None else f"replica {scope['replica']}"
    about += "" if scope["point"] is None else f", point {scope['point']} and what it stands on"
    return (
        f"<h1>Evidence for tenant {escape(body['tenant'])}</h1>"
        f'<p class="lead">{escape(about)}. Signed at {escape(_moment(document["time"]))} by the target appliance of '
        f"{escape(body['appliance']['trust_domain'])}, Keysapart {escape(body['appliance']['version'])}.</p>"
    )


def _verdict(body: Any) -> str:
    absence = body["absence"]
    worst = {risk["severity"] for risk in body["risks"]}
    kind = "bad" if "high" in worst else "medium" if "medium" in worst else "good"
    if not absence["checked"]:
        said = "Whether names of the source's keys stand anywhere here was not checked: no source's file was given."
    elif absence["found"]:
        said = f"Names of the source's keys or key providers were found in {absence['found']} places."
    else:
        size = _size(sum(place["bytes"] for place in absence["places"]))
        said = (
            "No key id and no key-provider name of the source was found in anything that the target holds: "
            f"{size} were looked through, {absence['windows']:,} comparisons made."
        )
    risks = _count(len(body["risks"]), "open risk")
    return f'<div class="verdict {kind}"><strong>{escape(said)}</strong><br>{risks}.</div>'


def _risks(body: Any) -> str:
    if not body["risks"]:
        return ""
    tags = {"high": "bad", "medium": "medium", "low": "low"}
    rows = "".join(
        f'<tr><td><span class="tag {tags[risk["severity"]]}">{risk["severity"]}</span></td>'
        f"<td>{escape(risk['what'])}</td></tr>"
        for risk in body["risks"]
    )
    return f"<h2>Open risks</h2><table>{rows}</table>"


def _absence(body: Any) -> str:
    absence = body["absence"]
    if not absence["checked"]:
        return ""
    sources = _table(
        ("VM's instance UUID", "made by agent", "at", "key ids", "providers", "patterns", "SHA-256 of the file"),
        [
            (
                _code(one["replica"]),
                _code(one["agent"]),
                _moment(one["time"]),
                one["key_ids"],
                one["key_providers"],
                one["patterns"],
                _code(one["sha256"]),
            )
            for one in absence["sources"]
        ],
    )
    places = _table(
        ("place", "files", "bytes"),
        [(place["place"], f"{place['files']:,}", f"{place['bytes']:,}") for place in absence["places"]],
    )
    hits = ""
    if absence["hits"]:
        rows = [(hit["file"], f"{hit['offset']:,}", hit["kind"], hit["form"]) for hit in absence["hits"]]
        hits = "<p><strong>Found:</strong></p>" + _table(("file", "at byte", "what", "form"), rows)
    return (
        "<h2>Names of the source's keys: what was compared</h2>"
        "<p>The source's agent wrote salted digests of the key ids and key-provider names that its vCenter shows. The "
        "target does not know them. It slid a window of each pattern's length over every byte of every file, and the "
        "names of the files. Memory of running processes was not looked through. Key material cannot be compared: "
        "it never leaves the source's KMS and hosts, and the agent has none.</p>"
        f"<p>What was looked for:</p>{sources}<p>Where:</p>{places}"
        f"<p>{absence['windows']:,} windows were compared, {absence['candidates']:,} of them with scrypt; "
        f"{absence['found']:,} match. {_count(absence['unread'], 'file')} could not be read.</p>{hits}"
    )


def _transport(body: Any) -> str:
    transport = body["transport"]
    rows: list[Row] = [
        ("calls by TLS version", _counts(transport["tls_versions"])),
        ("calls by key exchange", _counts(transport["key_exchanges"])),
    ]
    if transport["port"] is None:
        rows.append(("ciphers of the data port", "not asked: it was not open"))
    else:
        for tls, ciphers in transport["port"].items():
            rows.append((f"data port, {tls}", _code(", ".join(ciphers)) if ciphers else "refused"))
    return (
        "<h2>On the wire</h2><p>Both sides show certificates in every call. Versions and key exchanges are what TLS "
        "came to in each audited call; ciphers are those that the data port took when this report was made.</p>"
        f"{_facts(rows)}"
    )


def _at_rest(body: Any) -> str:
    keys = body["at_rest"]
    rows: list[Row] = [
        ("data", keys["algorithm"]),
        ("keys", keys["wrapping"]),
        ("KMS of the target", keys["kms"]),
        ("key-encryption key", _code(keys["kek"] or "none yet")),
        ("its state", keys["kek_state"] or keys["kms_trouble"] or "not known"),
    ]
    return f"<h2>At rest</h2>{_facts(rows)}"


def _replica(replica: Any) -> str:
    rows = []
    for point in replica["points"]:
        wire = point["transport"] or {}
        seed = "seed, carried by hand" if point["seed"] else "not in the audit log"
        over: Any = seed
        if wire:
            over = f"{wire['tls']}, {wire['key_exchange']}, from {wire['peer']}, agent "
            over = _Html(escape(over) + _code(wire["agent"]))
        roots = _Html("<br>".join(f"disk {disk['disk']}: {_code(disk['root'])}" for disk in point["disks"]))
        rows.append(
            (
                point["point"],
                point["kind"],
                _moment(point["taken"]),
                over,
                "yes" if point["verified"] else "no",
                _Html(f"record {_code(point['record_hash'])}<br>{roots}"),
            )
        )
    last = replica["last_verify"]
    told = (
        "never with the key"
        if last is None
        else f"{_moment(last['time'])}, {last['outcome']}, {last['grains']} grains opened"
    )
    return (
        f"<h2>VM {escape(replica['vm'])}</h2><p>Replica {_code(replica['replica'])}. Last verify: {escape(told)}.</p>"
        + _table(("point", "kind", "taken", "came over", "verified", "hash of the record, roots of the disks"), rows)
    )


def _agents(body: Any) -> str:
    rows = [
        (
            _code(one["agent"]),
            one["role"],
            _moment(one["not_after"]),
            _moment(one["revoked"]),
            _code(one["certificate"]),
        )
        for one in body["agents"]
    ]
    head = ("who", "role", "certificate until", "revoked", "SHA-256 of the certificate")
    return f"<h2>Who may come in for the tenant</h2>{_table(head, rows)}"


def _audit(body: Any) -> str:
    audit = body["audit"]
    rows: list[Row] = [
        ("state", "as it was written" if audit["intact"] else f"NOT as it was written: {audit['trouble']}"),
        ("newest line", audit["sequence"]),
        ("its digest", _code(audit["digest"] or "-")),
        ("last exported", _moment(audit["head_exported"])),
        ("events of the tenant", _counts(audit["events"])),
    ]
    return f"<h2>Audit log</h2>{_facts(rows)}"


def _how(body: Any, digest: str) -> str:
    authority = body["appliance"]["authority"]
    rows: list[Row] = [
        ("authority's fingerprint", _code(authority)),
        ("SHA-256 of the report", _code(digest)),
        ("check", _code(f"target-appliance evidence check FILE --fingerprint {authority}")),
    ]
    return (
        "<h2>How to check this</h2><p>This page is a rendering; the JSON file beside it is signed. Get the fingerprint "
        f"from the appliance's operator by another way than this page.</p>{_facts(rows)}"
    )


def _moment(text: str | None) -> str:
    """A time, for people."""
    return "-" if text is None else f"{text[:10]} {text[11:19]} UTC"


class _Html(str):
    """Is HTML already."""

    __slots__ = ()


def _code(text: Any) -> _Html:
    return _Html(f"<code>{escape(str(text))}</code>")


def _cell(value: Any) -> str:
    return value if isinstance(value, _Html) else escape(str(value))


def _facts(rows: Iterable[Row]) -> str:
    cells = "".join(f"<tr><th>{escape(str(name))}</th><td>{_cell(value)}</td></tr>" for name, value in rows)
    return f'<table class="facts">{cells}</table>'


def _table(head: Sequence[str], rows: Iterable[Row]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    cells = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{cells}</table>"


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(found.items())) or "none"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
