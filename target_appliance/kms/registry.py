"""From configuration to a driver. Drivers are imported only when chosen: each brings its own heavy libraries."""

import functools
from typing import TypeVar

from common.clock import Clock
from common.errors import ConfigError
from target_appliance.config import ApplianceConfig, KmsSettings, Pkcs11Settings
from target_appliance.kms.directory import KmsDirectory
from target_appliance.kms.lazy import LazyKms
from target_appliance.kms.port import Kms

S = TypeVar("S")


def create(settings: KmsSettings, clock: Clock) -> Kms:
    """The configured driver. It has not spoken to its server yet, unless that lies in a file.

    Raises:
        ConfigError: its files cannot be used.
        PreconditionError: the embedded KMS has not been made yet.
    """
    if settings.driver == "kmip":
        from target_appliance.kms.kmip.driver import KmipKms  # noqa: PLC0415

        return KmipKms(_described(settings.kmip), clock)
    if settings.driver == "transit":
        from target_appliance.kms.secret import read_token  # noqa: PLC0415
        from target_appliance.kms.transit.driver import TransitKms  # noqa: PLC0415

        transit = _described(settings.transit)
        return TransitKms(transit, functools.partial(read_token, transit), clock)
    if settings.driver == "pkcs11":
        return _pkcs11(_described(settings.pkcs11))
    from target_appliance.kms.embedded import EmbeddedKms  # noqa: PLC0415
    from target_appliance.kms.secret import read_passphrase  # noqa: PLC0415

    embedded = _described(settings.embedded)
    return EmbeddedKms.open(embedded.file, read_passphrase(embedded))


def directory(config: ApplianceConfig, clock: Clock, *, lazy: bool = False) -> KmsDirectory:
    """Every configured KMS. Named ones are set up at their first use: one tenant's trouble keeps no other out.

    Args:
        config: the appliance's.
        clock: for deadlines.
        lazy: set up the default one at its first use, too.

    Raises:
        ConfigError, PreconditionError: see ``create``; not when ``lazy``.
    """

    def later(settings: KmsSettings) -> LazyKms:
        return LazyKms(lambda: create(settings, clock))

    default = later(config.kms) if lazy else create(config.kms, clock)
    return KmsDirectory(default, {name: later(settings) for name, settings in config.kms_named.items()})


def prepare(settings: KmsSettings) -> None:
    """Make what the driver needs before its first use: the embedded one's file, where it is missing.

    Raises:
        ConfigError: there is no usable passphrase.
    """
    if settings.driver != "embedded":
        return
    from target_appliance.kms.embedded import EmbeddedKms  # noqa: PLC0415
    from target_appliance.kms.secret import read_passphrase  # noqa: PLC0415

    embedded = _described(settings.embedded)
    passphrase = read_passphrase(embedded)
    if not embedded.file.exists():
        EmbeddedKms.create(embedded.file, passphrase)


def _pkcs11(settings: Pkcs11Settings) -> Kms:
    try:
        from target_appliance.kms.pkcs11.driver import Pkcs11Kms  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "pkcs11":
            raise
        raise ConfigError(
            "the KMS driver pkcs11 needs the package python-pkcs11, which is not installed",
            subject="config kms.driver",
            next_step="install the appliance as keysapart[pkcs11]",
        ) from None
    from target_appliance.kms.secret import read_pin  # noqa: PLC0415

    return Pkcs11Kms(settings, functools.partial(read_pin, settings))


def _described(section: S | None) -> S:
    if section is None:  # the model refuses this already; here it is for the type checker and for whoever builds one
        raise ConfigError("the chosen KMS driver has no table", subject="config kms", next_step="add it")
    return section
