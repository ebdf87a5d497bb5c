"""``[vcenter]`` of both halves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from common.errors import Fault
from common.vsphere.section import AccessSection

GIVEN = {"host": "vc", "user": "u", "password_file": "p"}


@pytest.mark.parametrize("trust", [{}, {"ca_file": "c", "certificate_sha256": "ab" * 32}])
def test_exactly_one_kind_of_trust(trust):
    with pytest.raises(ValidationError, match="exactly one of ca_file and certificate_sha256"):
        AccessSection.model_validate(GIVEN | trust)


def test_the_session_gets_what_is_set_and_the_side():
    class Target(AccessSection):
        side = Fault.TARGET

    made = Target.model_validate(GIVEN | {"certificate_sha256": "ab" * 32, "port": 8443}).settings

    assert (made.host, made.port, made.user, made.password_file) == ("vc", 8443, "u", Path("p"))
    assert (made.certificate_sha256, made.side) == ("ab" * 32, Fault.TARGET)


@pytest.mark.parametrize("module", ["source_agent.config", "source_agent.vsphere.port", "target_appliance.config"])
def test_no_configuration_loads_the_vendors_bindings(module):
    program = f"import sys, {module}; print(*sys.modules)"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=bare)
    assert "pyVmomi" not in done.stdout.split()
