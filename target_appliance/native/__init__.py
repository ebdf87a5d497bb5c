"""Native mode: a point becomes a net-new VM of the target site's vCenter, encrypted under that site's own keys."""
