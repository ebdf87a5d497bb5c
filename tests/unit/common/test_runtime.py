import subprocess
import sys

from common import runtime

PROGRAM = """
import resource, threading
from common import runtime
assert runtime.keep_freed_memory()
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
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda _: object())
    assert runtime.keep_freed_memory() is False


def test_a_thread_gets_the_interpreter_within_a_grain_and_collection_is_rare():
    program = "import gc, sys; from common import runtime; runtime.tune()"
    program += "; print(sys.getswitchinterval(), *gc.get_threshold())"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout.split()
    assert float(said[0]) < 0.001
    assert int(said[1]) > 10_000
