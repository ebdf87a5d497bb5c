"""What the agent asks of vCenter: one port, its pyvmomi driver, and the rules around snapshots and change tracking."""
