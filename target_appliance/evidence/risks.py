"""What an auditor should know that is not as it should be. Pure: the report's other parts in, risks out."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

HIGH, MEDIUM, LOW = "high", "medium", "low"
_SOON: Final = timedelta(days=30)
_CA_SOON: Final = timedelta(days=365)
_OLD_VERIFY: Final = timedelta(days=30)

Part = Mapping[str, Any]


def risks(body: Part, now: datetime) -> list[dict[str, str]]:
    """Every open risk, worst first; ``body`` is the report without them."""
    order = (HIGH, MEDIUM, LOW)
    found = [*_keys(body), *_points(body, now), *_absence(body), *_transport(body), *_audit(body), *_dates(body, now)]
    return sorted(found, key=lambda one: order.index(one["severity"]))


def _risk(severity: str, what: str) -> dict[str, str]:
    return {"severity": severity, "what": what}


def _keys(body: Part) -> Iterator[dict[str, str]]:
    keys = body["at_rest"]
    if keys["kek"] is None:
        yield _risk(LOW, "the tenant has no key-encryption key yet: nothing was received")
    elif keys["kek_state"] is None:
        yield _risk(MEDIUM, "the KMS did not say which state the key-encryption key is in")
    elif keys["kek_state"] != "active":
        yield _risk(HIGH, f"the key-encryption key is {keys['kek_state']}: no sync is accepted, no point can be opened")
    for one in keys["revealed"]:
        yield _risk(MEDIUM, f"data keys of {one['object']} were written to a file in the clear at {one['time']}")
    if str(keys["kms"]).startswith("embedded"):
        yield _risk(MEDIUM, "the KMS is embedded: who has the appliance's disk and its passphrase has every key")


def _points(body: Part, now: datetime) -> Iterator[dict[str, str]]:
    for replica in body["replicas"]:
        name = f"replica {replica['replica']}"
        last = replica["last_verify"]
        if last is None:
            yield _risk(MEDIUM, f"{name} was never verified with the key, as far as the audit log reaches")
            continue
        if last["outcome"] != "ok":
            yield _risk(HIGH, f"the last verify of {name} found {last['findings']} things wrong")
        if now - _time(last["time"]) > _OLD_VERIFY:
            yield _risk(LOW, f"{name} was last verified at {last['time']}")
        late = [point["point"] for point in replica["points"] if not point["verified"]]
        if late:
            numbers = ", ".join(map(str, late[:10])) + (" …" if len(late) > 10 else "")
            yield _risk(LOW, f"points of {name} that no verify with the key covered yet: {numbers}")
    for damaged in body["damaged"]:
        yield _risk(HIGH, f"the record of point {damaged['point']} of replica {damaged['replica']} is damaged")


def _absence(body: Part) -> Iterator[dict[str, str]]:
    absence = body["absence"]
    if not absence["checked"]:
        yield _risk(MEDIUM, "nobody gave the source's file: that nothing here bears a name of its keys was not checked")
        return
    if absence["found"]:
        yield _risk(HIGH, f"names of the source's keys or key providers stand in {absence['found']} places here")
    if absence["unread"]:
        yield _risk(MEDIUM, f"{absence['unread']} files could not be read, and so not be looked through")
    left_out = sum(one["left_out"] for one in absence["sources"])
    if left_out:
        yield _risk(LOW, f"{left_out} names of the source are too short or too long to be looked for")
    known = {one["agent"] for one in body["agents"]}
    for one in absence["sources"]:
        if one["agent"] not in known:
            yield _risk(MEDIUM, f"the source's file {one['sha256'][:16]}… is from an agent that is not registered here")
    covered = {one["replica"] for one in absence["sources"]}
    for replica in body["replicas"]:
        if replica["replica"] not in covered:
            yield _risk(LOW, f"no source's file is about the VM of replica {replica['replica']}")


def _transport(body: Part) -> Iterator[dict[str, str]]:
    transport = body["transport"]
    old = sorted(set(transport["tls_versions"]) - {"TLSv1.3", "TLSv1.2"})
    if old:
        yield _risk(HIGH, f"calls came over {', '.join(old)}")
    port = transport["port"]
    if port is None:
        yield _risk(LOW, "the data port was not open when this was made: which ciphers it takes was not asked")
    elif any(port.get(version) for version in ("TLSv1", "TLSv1.1")):
        yield _risk(HIGH, "the data port takes TLS versions older than 1.2")
    unknown = [
        f"{point['point']} of {replica['replica']}"
        for replica in body["replicas"]
        for point in replica["points"]
        if point["transport"] is None and not point["seed"]
    ]
    if unknown:
        yield _risk(LOW, f"the audit log does not reach back to the syncs of {len(unknown)} points: {unknown[0]} …")


def _audit(body: Part) -> Iterator[dict[str, str]]:
    audit = body["audit"]
    if not audit["intact"]:
        yield _risk(HIGH, f"the audit log is not what was written: {audit['trouble']}")
    if audit["healed"]:
        yield _risk(LOW, f"the audit log was cut in the middle of a line {audit['healed']} times, as crashes do")
    if audit["head_exported"] is None:
        yield _risk(LOW, "no head of the audit log was ever exported: who owns this machine could have written it anew")


def _dates(body: Part, now: datetime) -> Iterator[dict[str, str]]:
    for agent in body["agents"]:
        if agent["revoked"] is None and _time(agent["not_after"]) - now < _SOON:
            yield _risk(LOW, f"the certificate of {agent['role']} {agent['agent']} ends at {agent['not_after']}")
    if _time(body["appliance"]["authority_not_after"]) - now < _CA_SOON:
        yield _risk(MEDIUM, f"the authority's certificate ends at {body['appliance']['authority_not_after']}")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
