"""``source-agent`` or ``target-appliance`` that looks at once at what changed: COMMAND WORDS…

The agent looks after its certificate many times a second; the appliance asks at every batch of frames whether the
caller is still let in and its KEK still Active. So a sync that is open while something changes is judged by the change.
"""

import sys

from common.grain import GRAIN_BYTES
from source_agent import cli as agent
from source_agent.daemon import certificate
from source_agent.stream import flight
from target_appliance.cli import app as appliance
from target_appliance.recovery import keyring
from target_appliance.server import standing

COMMANDS = {"source-agent": agent.main, "target-appliance": appliance.main}

if __name__ == "__main__":
    for module, name, value in (
        (flight, "BATCH_BYTES", GRAIN_BYTES),
        (certificate, "_EVERY", 0.1),
        (standing, "ASK_SECONDS", 0.0),
        (keyring, "ASK_SECONDS", 0.0),
    ):
        getattr(module, name)  # one that was renamed would be patched in vain
        setattr(module, name, value)
    sys.argv = sys.argv[1:]
    COMMANDS[sys.argv[0]]()
