"""Policies, locks and holds, as files of the store: a catalog that is lost or rebuilt changes nothing that is kept.

A file that is not there sets nothing: without a policy nothing is dropped. A damaged one is an error: nothing is
dropped either until it is mended. Whoever changes one holds the tenant's lock (KeyFiles.locked); readers hold nothing.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from common.errors import InvalidInputError, NotFoundError
from common.ids import PointNumber, ReplicaId, TenantId, parse_point
from target_appliance.recovery import names, small_file
from target_appliance.retention.policy import Policy
from target_appliance.retention.rules import Hold
from target_appliance.store.port import Store

FILE: Final = names.RETENTION_FILE
"""In the tenant's folder and in the replica's."""
MOST_LOCK_DAYS: Final = 36_500
_MOST_HOLDS: Final = 10_000
_MOST_NAME: Final = 64
_MOST_REASON: Final = 256


@dataclass(frozen=True, slots=True)
class OfTenant:
    """What holds for all replicas of a tenant that have no policy of their own."""

    policy: Policy | None = None
    lock_days: int = 0
    """Days for which a point that is committed from now on cannot be dropped."""

    def members(self) -> dict[str, Any]:
        """For the file."""
        return {"policy": self.policy and self.policy.members(), "lock_days": self.lock_days}


@dataclass(frozen=True, slots=True)
class OfReplica:
    """What holds for one replica."""

    policy: Policy | None = None
    holds: dict[PointNumber, tuple[Hold, ...]] = field(default_factory=dict)

    def members(self) -> dict[str, Any]:
        """For the file."""
        holds = [
            {"point": number, "name": hold.name, "reason": hold.reason}
            for number, holds in sorted(self.holds.items())
            for hold in holds
        ]
        return {"policy": self.policy and self.policy.members(), "holds": holds}


def of_tenant(store: Store, tenant: TenantId) -> OfTenant:
    """A tenant's settings. Raises DamagedError."""
    path = f"{names.tenant_folder(tenant)}/{FILE}"
    try:
        members = small_file.read(store, path)
        return OfTenant(_policy(members), _days(members["lock_days"]))
    except NotFoundError:
        return OfTenant()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise small_file.damaged(path, str(error)) from None


def of_replica(store: Store, tenant: TenantId, replica: ReplicaId) -> OfReplica:
    """A replica's settings. Raises DamagedError."""
    path = f"{names.replica_folder(tenant, replica)}/{FILE}"
    try:
        members = small_file.read(store, path)
        holds: dict[PointNumber, tuple[Hold, ...]] = {}
        for one in members["holds"]:
            number = parse_point(one["point"])
            holds[number] = (*holds.get(number, ()), Hold(str(one["name"]), str(one["reason"])))
        return OfReplica(_policy(members), holds)
    except NotFoundError:
        return OfReplica()
    except (ValueError, KeyError, TypeError, AttributeError, InvalidInputError) as error:
        raise small_file.damaged(path, str(error)) from None


def put_tenant(store: Store, tenant: TenantId, settings: OfTenant) -> None:
    """Write a tenant's settings, under its lock.

    Raises:
        InvalidInputError: a lock of so many days cannot be.
    """
    if not 0 <= settings.lock_days <= MOST_LOCK_DAYS:
        raise InvalidInputError(
            f"points cannot be locked for {settings.lock_days} days",
            subject="lock_days",
            next_step=f"give 0 to {MOST_LOCK_DAYS}",
        )
    small_file.replace(store, names.tenant_folder(tenant), FILE, settings.members())


def put_replica(store: Store, tenant: TenantId, replica: ReplicaId, settings: OfReplica) -> None:
    """Write a replica's settings, under its tenant's lock."""
    small_file.replace(store, names.replica_folder(tenant, replica), FILE, settings.members())


def held(settings: OfReplica, point: PointNumber, hold: Hold) -> OfReplica:
    """``settings`` with a hold more; one of the same name on the same point is replaced.

    Raises:
        InvalidInputError: it cannot be written down.
    """
    for text, most, what in ((hold.name, _MOST_NAME, "name"), (hold.reason, _MOST_REASON, "reason")):
        if not 0 < len(text) <= most or not text.isprintable():
            raise InvalidInputError(
                f"a hold's {what} has 1 to {most} printable characters", subject="hold", next_step=f"give a {what}"
            )
    others = tuple(one for one in settings.holds.get(point, ()) if one.name != hold.name)
    holds = {**settings.holds, point: (*others, hold)}
    if sum(len(one) for one in holds.values()) > _MOST_HOLDS:
        raise InvalidInputError(
            f"a replica has at most {_MOST_HOLDS} holds", subject="hold", next_step="release some, or set a policy"
        )
    return OfReplica(settings.policy, holds)


def released(settings: OfReplica, point: PointNumber, name: str) -> OfReplica:
    """``settings`` without a hold.

    Raises:
        NotFoundError: there is none of that name on the point.
    """
    there = settings.holds.get(point, ())
    left = tuple(one for one in there if one.name != name)
    if left == there:
        raise NotFoundError(
            f"point {point} is not held as {name[:80]!a}",
            subject=f"point {point}",
            next_step="list holds with target-appliance points plan-retention",
        )
    others = {number: holds for number, holds in settings.holds.items() if number != point}
    return OfReplica(settings.policy, {**others, point: left} if left else others)


def _policy(members: dict[str, Any]) -> Policy | None:
    found = members["policy"]
    return None if found is None else Policy.of_members(found)


def _days(found: Any) -> int:
    if type(found) is not int or not 0 <= found <= MOST_LOCK_DAYS:
        raise ValueError("lock_days is no number of days")
    return found
