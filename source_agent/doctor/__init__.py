"""Everything that may stand in a sync's way, looked for before it does: the agent itself, both sites, every VM.

Each check yields findings as preflight does and changes nothing; what one cannot find out is a finding, too, and keeps
no other from running. ``examine`` runs them all, ``report`` groups what they found.
"""

from source_agent.doctor.examine import examine
from source_agent.doctor.report import Report

__all__ = ["Report", "examine"]
