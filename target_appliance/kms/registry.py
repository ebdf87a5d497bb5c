"""From configuration to a driver. Drivers are imported only when chosen: each brings its own heavy libraries."""

from typing import TypeVar

from common.clock import Clock
from common.errors import ConfigError
from target_appliance.config import KmsSettings
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
    from target_appliance.kms.embedded import EmbeddedKms  # noqa: PLC0415
    from target_appliance.kms.passphrase import read_passphrase  # noqa: PLC0415

    embedded = _described(settings.embedded)
    return EmbeddedKms.open(embedded.file, read_passphrase(embedded))


def prepare(settings: KmsSettings) -> None:
    """Make what the driver needs before its first use: the embedded one's file, where it is missing.

    Raises:
        ConfigError: there is no usable passphrase.
    """
    if settings.driver != "embedded":
        return
    from target_appliance.kms.embedded import EmbeddedKms  # noqa: PLC0415
    from target_appliance.kms.passphrase import read_passphrase  # noqa: PLC0415

    embedded = _described(settings.embedded)
    passphrase = read_passphrase(embedded)
    if not embedded.file.exists():
        EmbeddedKms.create(embedded.file, passphrase)


def _described(section: S | None) -> S:
    if section is None:  # the model refuses this already; here it is for the type checker and for whoever builds one
        raise ConfigError("the chosen KMS driver has no table", subject="config kms", next_step="add it")
    return section
