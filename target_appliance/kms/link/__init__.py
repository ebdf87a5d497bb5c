"""Verified TLS to key servers with deadlines, one reconnect and failover: what drivers that have a network share."""
