"""What a process can do to keep plaintext and keys in its memory out of files: no core dumps, no swap, no peeking.

Best effort: what is not allowed here is logged and goes on, because the units in ``deploy/`` set the same from outside.
"""

import ctypes
import os
import resource
from dataclasses import dataclass

from common import log

_PR_SET_DUMPABLE = 4
_MCL_CURRENT_AND_FUTURE = 1 | 2
_MCL_ONFAULT = 4
_UNLIMITED = resource.RLIM_INFINITY

_log = log.get("hardening")


@dataclass(frozen=True, slots=True)
class Hardened:
    """What holds from now on, for this process and its threads."""

    no_core_file: bool
    not_dumpable: bool
    """Neither core dumps through a pipe, nor ptrace or /proc/PID/mem by the same user."""
    memory_locked: bool
    """Nothing of it is swapped out."""


def harden() -> Hardened:
    """Protect this process's memory as far as it is allowed to."""
    done = Hardened(_no_core_file(), _not_dumpable(), _lock_memory())
    if not (done.no_core_file and done.not_dumpable):
        _log.warning("core dumps of this process could not be ruled out")
    if not done.memory_locked:
        _log.info("memory may be swapped out; use encrypted swap or none, or allow locking with LimitMEMLOCK=infinity")
    return done


def _no_core_file() -> bool:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)


def _not_dumpable() -> bool:
    return bool(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)


def _lock_memory() -> bool:
    # With a finite limit, mlockall succeeds now and lets every later allocation past the limit fail: worse than swap.
    if os.geteuid() != 0 and resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != _UNLIMITED:
        return False
    # On fault: stacks and arenas that are reserved but never touched stay without memory. Linux 4.4 and newer.
    return bool(_libc().mlockall(_MCL_CURRENT_AND_FUTURE | _MCL_ONFAULT) == 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
