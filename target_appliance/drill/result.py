"""What is kept of a drill: a signed document in the state folder; nothing of the guest but a digest of its screen."""

import hashlib
from pathlib import Path
from typing import Any, Final

from common.private_file import write_file
from target_appliance.drill.guest import Seen
from target_appliance.drill.machine import Machine
from target_appliance.identity.signing import Signer
from target_appliance.present.callers import Shown

KIND: Final = "keysapart-drill"


def body(shown: Shown, machine: Machine, awaited: str, seen: Seen) -> dict[str, Any]:
    """The document's body."""
    return {
        "tenant": shown.tenant,
        "replica": shown.replica,
        "point": shown.point,
        "came_up": seen.came_up,
        "milliseconds": round(seen.seconds * 1000),
        "awaited": awaited,
        "accelerator": seen.accelerator.value,
        "firmware": machine.firmware.value,
        "disks": [disk.name for disk in machine.disks],
        "picture_sha256": hashlib.sha256(seen.picture).hexdigest(),
    }


def keep(folder: Path, signer: Signer, members: dict[str, Any], began: str) -> Path:
    """Sign the body, and write it under the tenant's and the replica's names; its own is when the drill ``began``.

    Raises:
        AlreadyExistsError: another drill of the replica began in the same second.
        OSError: the file system refused.
    """
    place: Path = folder / members["tenant"] / members["replica"]
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / f"{began}.json"
    write_file(path, signer.sign(KIND, members))
    return path
