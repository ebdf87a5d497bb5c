"""``tenants add --kms --kek``: where a tenant's keys lie, laid down before its first use."""

from common.ids import parse_tenant
from target_appliance.at_rest import opened
from target_appliance.config import ApplianceConfig
from target_appliance.kms import registry


def choose_key(config: ApplianceConfig, name: str, kms: str | None, kek: str | None) -> str:
    """Give tenant ``name`` a KMS and a key there, whose id is returned; the same again does no harm.

    Args:
        config: the appliance's.
        name: the tenant's; it need not be registered yet.
        kms: name of a KMS of the configuration; None for the default one.
        kek: id of a key that is there; None makes one.

    Raises:
        InvalidInputError: the name is no tenant's.
        AlreadyExistsError: the tenant has a key already, or the key is another tenant's.
        KeyNotUsableError, KmsUnavailableError: the KMS or the key cannot be used.
    """
    tenant = parse_tenant(name)
    with opened(config) as at_rest:
        vault = at_rest.vault
        settings = config.kms_named.get(kms or "")
        if settings and not any(vault.kms_of(other) == kms for other in vault.tenants()):
            registry.prepare(settings)  # nobody's keys can be missing from it
        return vault.choose_key(tenant, kms, kek)
