"""``target-appliance`` that dies as by SIGKILL at the nth time that a failover comes to a step:
``python -m tests.end_to_end.cut_off STEP N --config …``."""

import functools
import os
import sys

from target_appliance.cli.app import main
from target_appliance.native import command


def run(step: str, number: int) -> None:
    """Run the command line with that failpoint."""
    left = number

    def failpoint(reached: str) -> None:
        nonlocal left
        left -= reached == step
        if left == 0:
            os._exit(137)

    command.Command = functools.partial(command.Command, failpoint=failpoint)
    main()


if __name__ == "__main__":
    step, number = sys.argv[1:3]
    sys.argv[1:3] = []
    run(step, int(number))
