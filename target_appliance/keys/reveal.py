"""``keys reveal``: the data keys of a replica in a private file, with which its points are read without us.

The file's form is in docs/format.md, under "Revealed keys".
"""

import json
from pathlib import Path

from common.ids import ReplicaId, TenantId
from common.private_file import write_file
from target_appliance.recovery.vault import Vault

FORMAT = "keysapart revealed keys 1"


def reveal(vault: Vault, tenant: TenantId, replica: ReplicaId, path: Path) -> int:
    """Unwrap all DEKs of a replica and write them to a new file, 0600; returns how many.

    Raises:
        AlreadyExistsError: ``path`` exists.
        KeyNotUsableError, KmsUnavailableError: the KMS does not consent; nothing is written.
    """
    keys = [
        {"disk": disk, "epoch": epoch, "dek": vault.keyring.open(tenant, replica, disk, epoch).value.hex()}
        for disk, epoch in vault.keyring.epochs(tenant, replica)
    ]
    content = {"format": FORMAT, "tenant": tenant, "replica": replica, "keys": keys}
    write_file(path, json.dumps(content, indent=2).encode("ascii") + b"\n")
    return len(keys)
