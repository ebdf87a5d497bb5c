import pytest

from common.vsphere.session import best_version


@pytest.mark.parametrize(
    ("server", "version"),
    [
        ("6.5", "vim25/6.5"),
        ("6.7.3", "vim25/6.7.3"),
        ("7.0.3.0", "vim25/7.0.3.0"),
        ("8.0.3.0", "vim25/8.0.3.0"),
        ("8.0.3.9", "vim25/8.0.3.1"),
    ],
)
def test_the_newest_version_that_both_speak(server, version):
    assert best_version(server) == version


def test_a_vcenter_of_the_future_is_spoken_to_in_the_newest_known():
    assert best_version("99.0.0.0") == max(
        (best_version(server) for server in ("9.0.0.0", "99.0.0.0")), key=lambda text: text.split("/")[1]
    )


@pytest.mark.parametrize("server", ["6.0", "5.5", "", "odd", "6.x"])
def test_what_is_too_old_or_says_nothing_is_not_spoken_to(server):
    assert best_version(server) is None
