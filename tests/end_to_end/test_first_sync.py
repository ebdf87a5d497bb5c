"""A first sync and a delta, through the commands alone."""

import pytest

from tests.end_to_end.pair import Pair

pytestmark = pytest.mark.lab


def test_full_then_delta_then_nothing(embedded_pair: Pair) -> None:
    first = embedded_pair.sync("plain01")
    assert (first["kind"], first["point"]) == ("full", 1)
    embedded_pair.lab.guest("plain01", 2000).write(1 << 20, b"x" * 4096)
    second = embedded_pair.sync("plain01")
    assert (second["kind"], second["point"]) == ("delta", 2)
    assert second["disks"][0]["grains_sent"] == 1
    third = embedded_pair.sync("plain01")
    assert (third["kind"], third["point"]) == ("delta", 3)
    assert third["bytes_read"] == 0
    assert third["disks"][0]["grains_sent"] == 0
    assert embedded_pair.lab.control("orphans") == []
    assert embedded_pair.lab.control("snapshots", "plain01") == []
