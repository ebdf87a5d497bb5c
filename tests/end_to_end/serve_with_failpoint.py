"""``target-appliance serve`` that dies by SIGKILL at a step of a commit: CONFIG STEP NTH.

The product has no switch for this: the failpoint is an argument of the composition root, which only tests give.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from common import log
from common.config import load
from target_appliance.appliance import serve
from target_appliance.config import ApplianceConfig
from target_appliance.recovery.staging import COMMIT_STEPS


def main(path: str, step: str, nth: str) -> None:
    """Serve until ``step`` has been done for the ``nth`` time since the start."""
    assert step in COMMIT_STEPS
    config = load(Path(path), ApplianceConfig)
    log.configure(level=config.log.level, style=config.log.format)
    left = int(nth)
    counting = threading.Lock()

    def die_at(done: str) -> None:
        nonlocal left
        with counting:
            left -= done == step
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    serve(config, failpoint=die_at)


if __name__ == "__main__":
    main(*sys.argv[1:])
