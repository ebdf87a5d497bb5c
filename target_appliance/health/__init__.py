"""Whether the appliance can do its work, component by component."""
