"""``source-agent run``: the loop that keeps RPOs, the threads around it, and what it tells of itself.

One thread owns the scheduler's book and takes events from a queue; everything that may block (syncs, the inventory,
probes, questions) has a thread of its own.
"""
