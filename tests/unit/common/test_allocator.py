import subprocess
import sys

from common import allocator

PROGRAM = """
import resource, threading
from common import allocator
assert allocator.tune()
def work():
    for _ in range(200):
        bytearray(b"x") * (1 << 20)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_buffers_are_reused_instead_of_faulted_in_again():
    faults = int(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout)
    assert faults < 200 * 256 / 4  # each buffer has 256 pages


def test_a_c_library_without_the_door(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert allocator.tune() is False
