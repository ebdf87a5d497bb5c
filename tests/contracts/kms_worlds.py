"""Each key server with its administrator's door, for the contract suite."""

from dataclasses import dataclass, field
from typing import Any

from common.clock import SystemClock
from target_appliance.audit.keys import AuditedKms
from target_appliance.audit.log import AuditLog
from target_appliance.config import KmipSettings, Pkcs11Settings
from target_appliance.kms.embedded import EmbeddedKms
from target_appliance.kms.kmip.driver import KmipKms
from target_appliance.kms.lazy import LazyKms
from target_appliance.kms.memory import MemoryKms
from target_appliance.kms.pkcs11.driver import Pkcs11Kms
from target_appliance.kms.port import KekState
from target_appliance.kms.transit.driver import TransitKms
from tests.faults.kms import FaultKms
from tests.lab import softhsm
from tests.lab.kmip import KmipSite

PASSPHRASE = b"correct horse battery staple"


@dataclass
class World:
    """A driver, and what an administrator does to a key."""

    kms: Any
    retire: Any
    """Takes a key's id and the state that it is to have."""
    called: dict[KekState, KekState] = field(default_factory=dict)
    """What the server calls a state for which it has no word."""

    def close(self):
        self.kms.close()


def kmip_settings(site: KmipSite, **changes: Any) -> KmipSettings:
    """How an appliance reaches ``site``."""
    values = {
        "endpoints": (site.endpoint,),
        "server_name": site.server_name,
        "ca_file": str(site.ca_file),
        "certificate_file": str(site.certificate_file),
        "key_file": str(site.key_file),
    }
    return KmipSettings.model_validate(values | changes)


def memory(_site, _folder):
    kms = MemoryKms()
    return World(kms, kms.set_state)


def faults(_site, _folder):
    kms = MemoryKms()
    return World(FaultKms(kms), kms.set_state)


def lazy(_site, _folder):
    kms = MemoryKms()
    return World(LazyKms(lambda: kms), kms.set_state)


def audited(_site, folder):
    kms = MemoryKms()
    return World(AuditedKms(kms, AuditLog(folder / "audit", SystemClock())), kms.set_state)


def embedded(_site, folder):
    file = folder / "kms.json"
    EmbeddedKms.create(file, PASSPHRASE)
    # The administrator is another process: what it writes must be seen.
    return World(EmbeddedKms.open(file, PASSPHRASE), EmbeddedKms.open(file, PASSPHRASE).set_state)


def kmip(site, _folder):
    doors = {
        KekState.DEACTIVATED: site.deactivate,
        KekState.COMPROMISED: site.compromise,
        KekState.DESTROYED: site.destroy,
    }
    return World(KmipKms(kmip_settings(site), SystemClock()), lambda kek, state: doors[state](kek))


def pkcs11(_site, _folder):
    hsm = softhsm.of_process()
    settings = Pkcs11Settings.model_validate(
        {"module": str(hsm.module), "token_label": softhsm.LABEL, "pin_file": str(hsm.pin_file)}
    )
    doors = {
        KekState.DEACTIVATED: hsm.deactivate,
        KekState.COMPROMISED: hsm.deactivate,
        KekState.DESTROYED: hsm.destroy,
    }
    return World(
        Pkcs11Kms(settings, lambda: softhsm.PIN),
        lambda kek, state: doors[state](kek),
        {KekState.COMPROMISED: KekState.DEACTIVATED},
    )


def transit(site, _folder):
    doors = {
        KekState.DEACTIVATED: site.deactivate,
        KekState.COMPROMISED: site.deactivate,
        KekState.DESTROYED: site.destroy,
    }
    return World(
        TransitKms(site.settings(), lambda: site.token, SystemClock()),
        lambda kek, state: doors[state](kek),
        {KekState.COMPROMISED: KekState.DEACTIVATED},
    )


WORLDS = {
    "memory": memory,
    "faults": faults,
    "lazy": lazy,
    "audited": audited,
    "embedded": embedded,
    "kmip": kmip,
    "pkcs11": pkcs11,
    "transit": transit,
}
