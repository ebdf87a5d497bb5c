import json
import os
import subprocess
import sys

_CHILD = """
import json, os, pathlib, resource
from common.hardening import harden
{before}
done = harden()
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({{
    "no_core_file": done.no_core_file,
    "not_dumpable": done.not_dumpable,
    "memory_locked": done.memory_locked,
    "limit": resource.getrlimit(resource.RLIMIT_CORE),
    "locked_kib": int(status["VmLck"].split()[0]),
}}))
"""


def run(before: str = "") -> tuple[dict, str]:
    code = _CHILD.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr + done.stdout


def test_a_hardened_process_dumps_no_core_and_says_truly_whether_memory_is_locked() -> None:
    found, _ = run()
    assert found["no_core_file"]
    assert found["not_dumpable"]
    assert found["limit"] == [0, 0]
    assert found["memory_locked"] == (found["locked_kib"] > 0)


def test_without_the_right_to_lock_all_memory_none_is_locked_and_the_log_says_so() -> None:
    before = "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))\n"
    if os.geteuid() == 0:
        before += "os.setuid(65534)\n"
    found, printed = run(before)
    assert not found["memory_locked"]
    assert found["locked_kib"] == 0
    assert "memory may be swapped out" in printed
