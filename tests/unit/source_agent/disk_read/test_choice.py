from pathlib import Path

import pytest

from common.errors import ConfigError
from source_agent.disk_read.choice import choose

ROOT = Path("/opt/vddk")
LIBRARY = ROOT / "lib64" / "libvixDiskLib.so.8"


@pytest.mark.parametrize(
    ("transport", "library", "chosen", "mode", "why"),
    [
        ("auto", LIBRARY, "vddk-nbdssl", "nbdssl", "because there is a VDDK: /opt/vddk/lib64/libvixDiskLib.so.8"),
        ("auto", None, "hotadd", "hotadd", "because no VDDK is installed under /opt/vddk"),
        ("hotadd", LIBRARY, "hotadd", "hotadd", "as configured"),
        ("hotadd", None, "hotadd", "hotadd", "as configured"),
        ("vddk-nbdssl", LIBRARY, "vddk-nbdssl", "nbdssl", "as configured"),
        ("vddk-hotadd", LIBRARY, "vddk-hotadd", "hotadd", "as configured"),
    ],
)
def test_the_reader_and_its_reason(transport, library, chosen, mode, why):
    choice = choose(transport, library, ROOT)
    assert (choice.transport, choice.mode) == (chosen, mode)
    assert why in choice.why


@pytest.mark.parametrize("transport", ["vddk-nbdssl", "vddk-hotadd"])
def test_a_library_that_is_asked_for_and_absent_is_an_error_that_says_what_to_do(transport):
    with pytest.raises(ConfigError, match="no VDDK is installed under /opt/vddk") as caught:
        choose(transport, None, ROOT)
    assert "vddk_dir" in caught.value.next_step
    assert "hotadd" in caught.value.next_step
