"""The signed report for an auditor: what is known of a tenant's points, keys and syncs, and what was checked for it."""
