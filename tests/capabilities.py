"""What this process may do, so that a test is skipped where it cannot run, and fails where it should have run."""

import re
from pathlib import Path

SETPCAP, SYS_PTRACE, SYS_ADMIN = 8, 19, 21
"""Numbers of capabilities(7): to give up rights; to look into any process; to mount."""


def may(capability: int) -> bool:
    """Whether it is among the effective ones; of root in a container it need not be."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return bool(int(found[1], 16) >> capability & 1)
