"""The source agent: reads what changed on a VM's disks at the protected site and streams it to the target."""
