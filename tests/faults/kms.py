"""A key server that fails, breaks or hangs when a test says so, in the middle of a run too."""

import threading
from dataclasses import dataclass, field

from common.errors import KmsUnavailableError


def down(call: str) -> KmsUnavailableError:
    """What a stopped server becomes."""
    return KmsUnavailableError(f"the KMS does not answer {call}", subject="kms", next_step="start it")


@dataclass
class KmsTrap:
    """Which calls go wrong. ``only`` narrows them by the port's method names."""

    failing: bool = False
    at: int = 0
    """Fail the call of this number, counted from 1."""
    only: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    """Cleared by ``hang``: calls wait for it."""

    def __post_init__(self):
        self.free.set()

    def hang(self):
        """Let every call wait until ``free`` is set."""
        self.free.clear()

    def call(self, name):
        """One call; raises when it is to fail."""
        if self.only and name not in self.only:
            return
        self.calls.append(name)
        assert self.free.wait(60), f"{name} was left hanging"
        if self.failing or len(self.calls) == self.at:
            raise down(name)


class FaultKms:
    """See Kms; every call passes the trap first."""

    def __init__(self, inner, trap=None):
        self._inner = inner
        self.trap = trap or KmsTrap()

    @property
    def name(self):
        return self._inner.name

    def probe(self):
        self.trap.call("probe")
        self._inner.probe()

    def create_kek(self, tenant):
        self.trap.call("create_kek")
        return self._inner.create_kek(tenant)

    def state(self, kek_id):
        self.trap.call("state")
        return self._inner.state(kek_id)

    def wrap(self, kek_id, dek, associated_data):
        self.trap.call("wrap")
        return self._inner.wrap(kek_id, dek, associated_data)

    def unwrap(self, wrapped, associated_data):
        self.trap.call("unwrap")
        return self._inner.unwrap(wrapped, associated_data)

    def destroy_kek(self, kek_id):
        self.trap.call("destroy_kek")
        self._inner.destroy_kek(kek_id)

    def close(self):
        self._inner.close()
