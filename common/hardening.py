"""Protection of this process's memory, and what is not protected in its log."""

from common import log
from common.protection import Hardened, protect

_log = log.get("hardening")


def harden() -> Hardened:
    """Protect this process's memory as far as it is allowed to; what is not allowed is logged."""
    done = protect()
    if not (done.no_core_file and done.not_dumpable):
        _log.warning("core dumps of this process could not be ruled out")
    if not done.memory_locked:
        _log.info("memory may be swapped out; use encrypted swap or none, or allow locking with LimitMEMLOCK=infinity")
    return done
