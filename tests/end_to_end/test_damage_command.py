"""``target-appliance verify``: what an operator is told about damage, and by which exit code."""

import pytest

from common.errors import EXIT_OK
from tests.end_to_end.stored import Stored, altered, flip, stored

__all__ = ["stored"]

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("uncovered")]

EXIT_DAMAGED = 6


@pytest.mark.parametrize("flag", [[], ["--without-key"]])
def test_where_and_how(stored: Stored, flag: list[str]) -> None:
    pair, replica = stored.pair, stored.replica
    assert pair.target("verify", replica, *flag).code == EXIT_OK
    for name, disk in (("disk-2001.vmdk", 2001), ("disk-2000.manifest", 2000), ("point.json", None)):
        path = pair.point_folder(replica, 3) / name
        with altered(path):
            offset = stored.rng.randrange(path.stat().st_size)
            flip(path, offset, 0x40)
            outcome = pair.target("verify", replica, *flag, "--json")
            assert outcome.code == EXIT_DAMAGED, outcome
            assert (outcome.json["replica"], outcome.json["damaged"]) == (replica, True)
            named = [one for one in outcome.json["findings"] if (one["file"], one["disk"]) == (name, disk)]
            assert any(one["first_byte"] <= offset <= one["last_byte"] for one in named), (offset, outcome)
            assert {one["point"] for one in named} == {3}
            assert all(one["affects"] == [3, 4] for one in named)


@pytest.mark.parametrize("flag", [[], ["--without-key"]])
def test_in_words_and_only_of_what_suffers(stored: Stored, flag: list[str]) -> None:
    pair, replica = stored.pair, stored.replica
    path = pair.point_folder(replica, 3) / "disk-2001.vmdk"
    with altered(path):
        flip(path, stored.rng.randrange(path.stat().st_size), 0x01)
        outcome = pair.target("verify", replica, "--point", 3, *flag)
        assert outcome.code == EXIT_DAMAGED
        for word in (f"replica {replica}", "point 3", "disk 2001", "file disk-2001.vmdk", "bytes ", "DAMAGED"):
            assert word in outcome.out, outcome
        # A point below the damage is as good as ever.
        assert pair.target("verify", replica, "--point", 2, *flag).code == EXIT_OK


def test_without_key_needs_no_kms(stored: Stored) -> None:
    keys = stored.pair.config.parent / "embedded-kms.json"
    path = stored.pair.point_folder(stored.replica, 1) / "disk-2000.vmdk"
    with altered(path), altered(keys):
        keys.unlink()
        assert stored.pair.target("verify", stored.replica, "--without-key").code == EXIT_OK
        flip(path, path.stat().st_size // 2, 1)
        assert stored.pair.target("verify", stored.replica, "--without-key").code == EXIT_DAMAGED


@pytest.mark.parametrize("flag", [[], ["--without-key"]])
def test_the_newest_point_is_gone(stored: Stored, flag: list[str]) -> None:
    """Nothing in the store tells of it, but the catalog does."""
    folder = stored.pair.point_folder(stored.replica, 4)
    aside = stored.folder.parents[3] / "aside"
    folder.rename(aside)
    try:
        outcome = stored.pair.target("verify", stored.replica, *flag, "--json")
    finally:
        aside.rename(folder)
    assert outcome.code == EXIT_DAMAGED
    assert [(one["kind"], one["point"]) for one in outcome.json["findings"]] == [("missing", 4)]


def test_a_start_says_which_point_is_gone(stored: Stored) -> None:
    pair = stored.pair
    folder = pair.point_folder(stored.replica, 4)
    aside = stored.folder.parents[3] / "aside"
    assert pair.appliance is not None
    pair.appliance.stop()
    folder.rename(aside)
    try:
        pair.serve().stop()
        (gone,) = [line for line in pair.log.read_text().splitlines() if "gone from the store" in line]
        assert stored.replica in gone
        assert "point=4" in gone
        assert pair.done("points", stored.replica)["newest"] == 3
    finally:
        aside.rename(folder)
        pair.serve()
    assert pair.done("points", stored.replica)["newest"] == 4
    assert pair.target("verify", stored.replica).code == EXIT_OK
