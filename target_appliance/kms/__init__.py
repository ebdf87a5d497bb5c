"""Key servers of the target's own site behind one port: KMIP, embedded, memory."""
