"""``target-appliance serve`` that applies retention's rules all the time in place of once an hour: CONFIG."""

import sys

from target_appliance.cli import app
from target_appliance.retention import steward

SECONDS = 0.1

if __name__ == "__main__":
    assert steward._EVERY_SECONDS > steward._TICK_SECONDS > SECONDS
    steward._EVERY_SECONDS = steward._TICK_SECONDS = SECONDS  # type: ignore[misc]
    sys.argv[1:] = ["--config", sys.argv[1], "serve"]
    app.main()
