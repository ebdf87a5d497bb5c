"""What can go wrong with the lab itself; each message is one sentence for whoever runs it."""


class LabError(RuntimeError):
    """Base of the lab's own failures."""


class BuildError(LabError):
    """The vCenter cannot be built here."""


class ChildError(LabError):
    """A program of the lab did not come up or went away."""


class ControlError(LabError):
    """The lab refuses an order."""


class GuestError(LabError):
    """What was asked of a guest disk cannot be done."""


class PortError(LabError):
    """No port is free."""
