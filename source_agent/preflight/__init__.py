"""Can this VM be protected: one rule a function, each naming its remedy. Pure.

A finding either refuses the sync or warns. ``check`` runs every rule, so that a user sees all of them at once. What the
rules look at is read beforehand by ``gather``.
"""

from source_agent.preflight.finding import Finding, Setting, Severity, Shut
from source_agent.preflight.gather import DATA_PORT, gather, ports
from source_agent.preflight.probe import Probe
from source_agent.preflight.rules import check, require

__all__ = ["DATA_PORT", "Finding", "Probe", "Setting", "Severity", "Shut", "check", "gather", "ports", "require"]
