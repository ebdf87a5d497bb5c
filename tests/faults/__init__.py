"""Faults as components: wrappers with the same port as what they wrap."""
