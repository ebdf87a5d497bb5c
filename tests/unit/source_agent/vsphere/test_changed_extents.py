import pytest

from common.errors import ChangeTrackingError
from common.extent import Extent
from source_agent.vsphere.changed_extents import FEWEST_PAGES, collect
from source_agent.vsphere.port import ChangedPage

CAPACITY = 1000 * 512


def page(offset, length, *areas):
    return ChangedPage(offset, length, tuple(Extent(*area) for area in areas))


def asked(answers):
    """An ``ask`` that plays back, and the offsets it was asked for."""
    offsets = []

    def ask(offset):
        offsets.append(offset)
        return answers[len(offsets) - 1]

    return ask, offsets


def test_all_pages_are_joined_and_the_capacity_is_never_asked_for():
    ask, offsets = asked(
        [
            page(0, 4096, (0, 512), (1024, 512)),
            page(4096, 8192, (4096, 512), (4608, 512)),
            page(12288, CAPACITY - 12288, (CAPACITY - 512, 512)),
        ]
    )
    found = collect(ask, CAPACITY, "disk 2000")
    assert found == (Extent(0, 512), Extent(1024, 512), Extent(4096, 1024), Extent(CAPACITY - 512, 512))
    assert offsets == [0, 4096, 12288]


def test_no_change_is_one_empty_page():
    ask, offsets = asked([page(0, CAPACITY)])
    assert collect(ask, CAPACITY, "disk 2000") == ()
    assert offsets == [0]


def test_an_empty_disk_is_not_asked_for():
    ask, offsets = asked([])
    assert collect(ask, 0, "disk 2000") == ()
    assert offsets == []


LIES = {
    "starts elsewhere": [page(0, 512), page(0, CAPACITY)],
    "skips ahead": [page(512, CAPACITY - 512)],
    "does not advance": [page(0, 0)],
    "goes backwards": [page(0, -512)],
    "covers more than the disk": [page(0, CAPACITY + 512)],
    "last page covers more than the disk": [page(0, 512), page(512, CAPACITY)],
    "areas out of order": [page(0, CAPACITY, (1024, 512), (0, 512))],
    "areas overlap": [page(0, CAPACITY, (0, 1024), (512, 1024))],
    "area before the window": [page(0, 4096), page(4096, CAPACITY - 4096, (0, 512))],
    "area past the window": [page(0, 4096, (4096, 512))],
    "area straddles the window": [page(0, 4096, (3584, 1024))],
    "empty area": [page(0, CAPACITY, (512, 0))],
}


@pytest.mark.parametrize("answers", LIES.values(), ids=LIES.keys())
def test_an_answer_that_cannot_be_is_never_used(answers):
    ask, _ = asked(answers)
    with pytest.raises(ChangeTrackingError) as caught:
        collect(ask, CAPACITY, "disk 2000")
    assert caught.value.subject == "disk 2000"
    assert "compare" in caught.value.next_step


def test_a_vcenter_that_creeps_is_given_up():
    calls = []

    def ask(offset):
        calls.append(offset)
        return page(offset, 1)

    with pytest.raises(ChangeTrackingError, match=f"{FEWEST_PAGES} answers cover only {FEWEST_PAGES} of"):
        collect(ask, 1 << 30, "disk 2000")
    assert len(calls) == FEWEST_PAGES
