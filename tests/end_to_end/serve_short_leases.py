"""``target-appliance serve`` whose leases last seconds, so that what waits for one is not waited for: CONFIG."""

import sys

from target_appliance.cli import app
from target_appliance.receive import desk, open_sync
from target_appliance.server import replication

LEASE_SECONDS = 6.0

if __name__ == "__main__":
    for module in (open_sync, desk, replication):
        module.LEASE_SECONDS  # noqa: B018  one that was renamed would be patched in vain
        module.LEASE_SECONDS = LEASE_SECONDS  # type: ignore[misc,attr-defined]
    sys.argv[1:] = ["--config", sys.argv[1], "serve"]
    app.main()
