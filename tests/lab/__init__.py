"""The lab: both sites on one machine, for tests, the demo and newcomers.

No vCenter or ESXi can be had for a test, so the boundary is real and what lies behind it is simulated: govmomi's
simulator with changed-block tracking added, guest disks as files, hot-add as links, and one real KMIP server a site.
"""
