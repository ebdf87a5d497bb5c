"""The report: gathered from the store, the catalog, the KMS, the audit log and the data port, then signed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from common.clock import Clock
from common.errors import KeysapartError, NotFoundError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.at_rest import AtRest
from target_appliance.audit import check
from target_appliance.config import ApplianceConfig
from target_appliance.evidence import absence, port_probe
from target_appliance.evidence.history import History, read_history
from target_appliance.evidence.risks import risks
from target_appliance.identity.signing import Signer, fingerprint_of
from target_appliance.recovery.types import PointRecord
from target_appliance.upkeep import kms_status

KIND: Final = "evidence"
_ALGORITHM: Final = (
    "each 64 KiB grain: AES-256-GCM with a random nonce, under a key derived by HKDF-SHA256 from the disk's DEK, bound "
    "to replica, disk, point and place"
)
_WRAPPING: Final = "each DEK: AES-256-GCM in the KMS, under the tenant's KEK, bound to tenant, replica, disk and epoch"


@dataclass(frozen=True)
class Wanted:
    """What the report is about."""

    tenant: TenantId
    replica: ReplicaId | None
    """None for all of the tenant's."""
    point: PointNumber | None
    """None for all; else this one and what it stands on."""
    sources: Sequence[absence.Source]
    also: Sequence[Path]
    """Beside what the appliance holds, such as its log, or what was recorded on the wire."""


def make(config: ApplianceConfig, held: AtRest, wanted: Wanted, clock: Clock, progress: Callable[[int], None]) -> bytes:
    """The signed document.

    Raises:
        NotFoundError: no such tenant, replica or point.
        KeysapartError: something of it cannot be read.
    """
    verdict = check.verify(config.audit_dir)
    lines = (raw.line.members for raw in check.read(config.audit_dir) if raw.line is not None)
    history = read_history(lines, wanted.tenant)
    replicas, damaged = _replicas(held, wanted, history)
    body: dict[str, Any] = {
        "appliance": _appliance(config, held),
        "tenant": wanted.tenant,
        "scope": {"replica": wanted.replica, "point": wanted.point},
        "transport": {
            "tls_versions": dict(history.tls),
            "key_exchanges": dict(history.exchanges),
            "port": _port(config),
        },
        "at_rest": {**_keys(config, wanted.tenant), "revealed": history.revealed},
        "agents": _agents(held, wanted.tenant),
        "replicas": replicas,
        "damaged": damaged,
        "absence": absence.look(wanted.sources, _places(config, wanted.also), wanted.tenant, progress),
        "audit": {
            "intact": verdict.trouble is None,
            "trouble": verdict.trouble and f"{verdict.place or 'audit log'}: {verdict.trouble}",
            "sequence": verdict.head and verdict.head.sequence,
            "digest": verdict.head and verdict.head.digest,
            "healed": len(verdict.healed),
            "head_exported": history.head_exported,
            "events": dict(history.events),
        },
    }
    return Signer(held.authority, clock).sign(KIND, {**body, "risks": risks(body, clock.now())})


def to_look_through(config: ApplianceConfig, also: Sequence[Path]) -> int:
    """Bytes that a search will read."""
    return absence.total_bytes(_places(config, also))


def _appliance(config: ApplianceConfig, held: AtRest) -> dict[str, Any]:
    authority = x509.load_pem_x509_certificate(held.authority.ca_pem)
    return {
        "version": version("keysapart"),
        "trust_domain": config.trust_domain,
        "names": list(config.listen.names),
        "authority": fingerprint_of(authority),
        "authority_not_after": _iso(authority.not_valid_after_utc),
    }


def _keys(config: ApplianceConfig, tenant: TenantId) -> dict[str, Any]:
    status = kms_status(config)
    kms = status.of(tenant)
    own = next((key for key in status.keys if key["tenant"] == tenant), {})
    return {
        "algorithm": _ALGORITHM,
        "wrapping": _WRAPPING,
        "kms": kms.name,
        "kms_trouble": kms.trouble,
        "kek": own.get("kek"),
        "kek_state": own.get("state"),
    }


def _agents(held: AtRest, tenant: TenantId) -> list[dict[str, Any]]:
    return [
        {
            "agent": row.agent,
            "role": str(row.role),
            "certificate": row.fingerprint,
            "not_after": _time(row.not_after),
            "revoked": None if row.revoked is None else _time(row.revoked),
        }
        for row in held.catalog.agents(tenant)
    ]


def _port(config: ApplianceConfig) -> dict[str, list[str]] | None:
    try:
        return port_probe.probe(config.listen.data)
    except OSError:
        return None


def _places(config: ApplianceConfig, also: Sequence[Path]) -> list[absence.Place]:
    """Everything that the appliance keeps, each file once, and what else was given."""
    state, store = config.state_dir.resolve(), config.store_dir.resolve()
    inside = store.is_relative_to(state)
    places = [absence.Place("state", state)]
    places += [] if inside else [absence.Place("store", store)]
    if config.kms.embedded is not None and not config.kms.embedded.file.resolve().is_relative_to(state):
        places.append(absence.Place("embedded KMS", config.kms.embedded.file.resolve()))
    return [*places, *(absence.Place(f"also {path.name}", path.resolve()) for path in also)]


def _replicas(held: AtRest, wanted: Wanted, history: History) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    there = held.vault.replicas(wanted.tenant)
    if wanted.tenant not in held.catalog.tenants():
        raise _absent(f"there is no tenant {wanted.tenant}", f"tenant {wanted.tenant}")
    if wanted.replica is not None and wanted.replica not in there:
        raise _absent(f"tenant {wanted.tenant} has no replica {wanted.replica}", f"replica {wanted.replica}")
    found: list[dict[str, Any]] = []
    damaged: list[dict[str, Any]] = []
    for replica in there if wanted.replica is None else (wanted.replica,):
        records: dict[PointNumber, PointRecord] = {}
        for number in held.vault.point_numbers(wanted.tenant, replica):
            try:
                records[number] = held.vault.point(wanted.tenant, replica, number)
            except KeysapartError as error:
                damaged.append({"replica": replica, "point": number, "cause": error.message})
        chosen = records if wanted.point is None else _standing_on(records, wanted.point)
        if chosen:
            found.append(_replica(replica, chosen, history))
    if wanted.point is not None and not found:
        raise _absent(f"there is no point {wanted.point}", f"point {wanted.point}")
    return found, damaged


def _standing_on(records: dict[PointNumber, PointRecord], point: PointNumber) -> dict[PointNumber, PointRecord]:
    chosen: dict[PointNumber, PointRecord] = {}
    waiting = {point} & set(records)
    while waiting:
        number = waiting.pop()
        chosen[number] = records[number]
        bases = {disk.base_point for disk in records[number].disks if disk.base_point is not None}
        waiting |= (bases & set(records)) - set(chosen)
    return dict(sorted(chosen.items()))


def _replica(replica: ReplicaId, records: dict[PointNumber, PointRecord], history: History) -> dict[str, Any]:
    verified = history.verified.get((replica, True))
    newest = records[max(records)]
    return {
        "replica": replica,
        "vm": newest.vm_name,
        "last_verify": verified,
        "last_verify_without_key": history.verified.get((replica, False)),
        "points": [
            {
                "point": number,
                "sync": record.sync,
                "kind": record.kind.value,
                "taken": _time(record.snapshot_time),
                "committed": _time(record.commit_time),
                "consistency": record.consistency,
                "record_hash": record.record_hash.hex(),
                "parent": record.parent,
                "parent_hash": record.parent_hash.hex(),
                "disks": [
                    {
                        "disk": disk.spec.key,
                        "capacity_bytes": disk.spec.capacity_bytes,
                        "grains": disk.grains,
                        "key_epoch": disk.key_epoch,
                        "root": disk.manifest_root.hex(),
                    }
                    for disk in record.disks
                ],
                "seed": not any(disk.spec.uuid or disk.spec.change_id for disk in record.disks),
                "transport": history.syncs.get(record.sync),
                "verified": _covered(number, verified),
            }
            for number, record in records.items()
        ],
    }


def _covered(number: PointNumber, verified: dict[str, Any] | None) -> bool:
    if verified is None or verified["outcome"] != "ok" or verified["first_point"] is None:
        return False
    return bool(verified["first_point"] <= number <= verified["last_point"])


def _absent(what: str, subject: str) -> NotFoundError:
    return NotFoundError(what, subject=subject, next_step="list them with target-appliance replicas and points")


def _time(seconds: int) -> str:
    return _iso(datetime.fromtimestamp(seconds, UTC))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
