"""A point's disk as a plain file that other tools read: raw, flat, sparse or stream-optimised VMDK."""
