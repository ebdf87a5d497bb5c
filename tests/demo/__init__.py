"""The two-minute demo: both sites on this machine, from nothing to an export that equals the source."""
