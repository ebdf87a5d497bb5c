"""What stands in the way of making the VM at the target's vCenter. Pure rules over what was read there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from common.errors import PreconditionError
from target_appliance.native.privileges import NEEDS, Place

STANDARD, NATIVE, TRUSTED = "vCenter", "nativeProvider", "trustAuthority"
_KNOWN = {STANDARD: "standard (KMIP)", NATIVE: "native", TRUSTED: "trust authority"}
SAFE, PREPARED = "safe", "prepared"


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the cluster."""

    moref: str
    name: str
    connected: bool
    crypto: str
    """safe, prepared, incapable or pendingIncapable; empty where it does not tell."""
    has_datastore: bool


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The target's vCenter, as far as a failover needs it."""

    provider: str
    provider_kind: str | None
    """Its management type; None when no provider of that name is there."""
    provider_active: bool
    hosts: tuple[Host, ...]
    datastore: str
    free_bytes: int
    needed_bytes: int
    """What the disks may take: of all grains of their points' chains."""
    networks: Mapping[str, bool]
    """Those that the VM wants, and whether they are there."""
    appliance_encrypted: bool
    taken_name: str
    """The VM's name when another VM bears it; else empty."""
    lacking: Mapping[Place, frozenset[str]]
    """Privileges that the login has not."""
    vtpm: bool = False
    """The VM gets a new TPM."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in the way, or worth knowing."""

    blocks: bool
    subject: str
    what: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.what}: {self.next_step}" if self.next_step else self.what


def findings(site: Surroundings) -> tuple[Finding, ...]:
    """Everything there is to say, what blocks first."""
    found = [*_provider(site), *_hosts(site), *_places(site), *_privileges(site)]
    return tuple(sorted(found, key=lambda one: not one.blocks))


def require(found: tuple[Finding, ...]) -> None:
    """Raises PreconditionError with everything that blocks, in one sentence."""
    blocking = [one for one in found if one.blocks]
    if blocking:
        raise PreconditionError(
            "; ".join(one.what for one in blocking),
            subject=blocking[0].subject,
            next_step=", and ".join(dict.fromkeys(one.next_step for one in blocking)),
        )


def fit_host(site: Surroundings) -> Host | None:
    """The host that the VM is made on: the first that is fit, those first that need no change of mode."""
    fit = [one for one in site.hosts if one.connected and one.has_datastore and one.crypto in {SAFE, PREPARED}]
    return min(fit, key=lambda one: (one.crypto != SAFE, one.name), default=None)


def _provider(site: Surroundings) -> Iterator[Finding]:
    subject = f"key provider {site.provider}"
    kind = site.provider_kind
    if kind is None:
        yield Finding(True, subject, f"{subject} is not at the vCenter", "set key_provider to one that is")
        return
    if kind not in _KNOWN:
        what = f"{subject} is of a kind that is not known ({kind or 'none'})"
        yield Finding(True, subject, what, "set key_provider to a standard or native one")
    if not site.provider_active:
        step = "export its backup at the vCenter" if kind == NATIVE else "make its key servers answer the vCenter"
        yield Finding(True, subject, f"{subject} is not active", step)
    if kind == NATIVE:
        what = f"{subject} is native: its keys are derived on the hosts, no key server holds them"
        yield Finding(False, subject, what, "keep its backup, without which the VMs cannot be started elsewhere")


def _hosts(site: Surroundings) -> Iterator[Finding]:
    fit = fit_host(site)
    if fit is None:
        states = ", ".join(f"{one.name} {_state(one)}" for one in site.hosts) or "there are none"
        what = f"no host can take encrypted VMs ({states})"
        yield Finding(True, "hosts", what, "connect a host with the datastore whose encryption mode can be enabled")
    elif fit.crypto == PREPARED:
        what = f"host {fit.name} is prepared for encryption, and its mode will be switched on"
        yield Finding(False, f"host {fit.name}", what, "grant Cryptographer.RegisterHost on it")


def _state(host: Host) -> str:
    if not host.connected:
        return "is not connected"
    return host.crypto or "does not tell its state" if host.has_datastore else "has not the datastore"


def _places(site: Surroundings) -> Iterator[Finding]:
    if site.free_bytes < site.needed_bytes:
        subject = f"datastore {site.datastore}"
        what = f"{subject} has {site.free_bytes} bytes free, and the disks may take {site.needed_bytes}"
        yield Finding(True, subject, what, "make room there, or set another datastore")
    for name, there in site.networks.items():
        if not there:
            what = f"network {name} is not at the vCenter"
            yield Finding(True, f"network {name}", what, "set network, networks or test_network to one that is")
    if not site.appliance_encrypted:
        what = "the appliance's own VM is not encrypted, so encrypted disks cannot be attached to it"
        yield Finding(True, "appliance_vm", what, "encrypt its home at the vCenter")
    if site.taken_name:
        what = f"a VM {site.taken_name} is there already that is not of this failover"
        yield Finding(True, f"vm {site.taken_name}", what, "rename or remove it")

    if site.vtpm:
        what = "the VM had a TPM and gets a new, empty one: what was sealed to the old one is lost"
        yield Finding(False, "tpm", what, "have the guest's recovery keys at hand")


def _privileges(site: Surroundings) -> Iterator[Finding]:
    for purpose, place, ids in NEEDS:
        missing = sorted(frozenset(ids) & site.lacking.get(place, frozenset()))
        if missing:
            what = f"to {purpose} the login lacks {', '.join(missing)} on the {place}"
            yield Finding(True, f"{place}", what, "grant them to the login's role at the vCenter")
