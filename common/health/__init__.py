"""Whether a half can do its work, component by component."""
