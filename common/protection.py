"""What a process can do to keep plaintext and keys in its memory out of files: no core dumps, no swap, no peeking.

Best effort: what is not allowed does not happen, because the units in ``deploy/`` set the same from outside. Nothing is
imported here that brings ssl with it: a process may use this that must not have it.
"""

import ctypes
import os
import resource
from dataclasses import dataclass

_PR_SET_DUMPABLE = 4
_MCL_CURRENT_AND_FUTURE = 1 | 2
_MCL_ONFAULT = 4
_UNLIMITED = resource.RLIM_INFINITY


@dataclass(frozen=True, slots=True)
class Hardened:
    """What holds from now on, for this process and its threads."""

    no_core_file: bool
    not_dumpable: bool
    """Neither core dumps through a pipe, nor ptrace or /proc/PID/mem by the same user."""
    memory_locked: bool
    """Nothing of it is swapped out."""


def protect() -> Hardened:
    """Protect this process's memory as far as it is allowed to, without a word."""
    return Hardened(_no_core_file(), _not_dumpable(), _lock_memory())


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
