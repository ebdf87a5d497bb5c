"""What both halves need of a vCenter: session and trust, properties, tasks, faults, grants, hot-add."""
