"""A live view: the disks of a point as read-only NBD exports, opened as they are read."""
