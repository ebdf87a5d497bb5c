"""How large deltas are when a disk is encrypted below the guest, and when inside it: the same workload, twice."""
