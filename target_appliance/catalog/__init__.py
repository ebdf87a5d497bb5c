"""What the appliance knows of tenants, replicas and leases; a cache that the store can rebuild, leases excepted."""
