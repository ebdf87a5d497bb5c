from pathlib import Path

import pytest

from target_appliance.evidence.port_probe import VERSIONS, probe
from tests.fakes.served import served
from tests.lab.ports import reserved


def test_what_the_data_port_takes(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        found = probe(server.address)
    assert list(found) == list(VERSIONS)
    assert found["TLSv1.3"][0].startswith("TLS_")
    assert all("GCM" in cipher or "POLY1305" in cipher for cipher in found["TLSv1.2"])
    assert found["TLSv1.1"] == found["TLSv1"] == []


def test_nobody_there() -> None:
    with reserved(1) as (port,), pytest.raises(OSError, match="refused"):
        probe(f"127.0.0.1:{port}")
