from pathlib import Path

import pytest

from common.clock import SystemClock
from target_appliance.config import KmipSettings
from target_appliance.kms.kmip.driver import KmipKms
from target_appliance.kms.link.pool import Deadlines
from tests.lab.pki import Authority

QUICK = Deadlines(connect=1.0, call=2.0, idle=25.0)
"""The product's proportions, so that a test of a silent server takes two seconds."""


def _text(value):
    return str(value) if isinstance(value, Path) else value


@pytest.fixture
def connect(tmp_path):
    """Makes a driver of endpoints and their authority; closes it at the end."""
    made = []

    def make(*endpoints, ca_file, deadlines=QUICK, clock=None, **changes):
        stranger = Authority("clients", tmp_path / "clients.crt").issue_client(tmp_path / "client", "appliance")
        values = {
            "endpoints": endpoints,
            "server_name": "localhost",
            "ca_file": str(ca_file),
            "certificate_file": str(stranger.certificate_file),
            "key_file": str(stranger.key_file),
        }
        kms = KmipKms(
            KmipSettings.model_validate(values | {key: _text(value) for key, value in changes.items()}),
            clock or SystemClock(),
            deadlines,
        )
        made.append(kms)
        return kms

    yield make
    for kms in made:
        kms.close()
