"""When which VM is synced: policies, the scheduler, and why an RPO was missed. Pure: no threads, no I/O, time given.

RPO here is the age of a VM's newest point: it is kept while that age, counted from the point's snapshot, is at most
what the policy says. So a sync has to *end* before that, and a VM whose sync takes longer than half of its RPO cannot
keep it.
"""
