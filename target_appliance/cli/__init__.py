"""The ``target-appliance`` command: one module a group of commands, heavy imports only inside them."""

from target_appliance.cli.app import main

__all__ = ["main"]
