"""Whatever a vCenter answers, the list of changed extents is complete or refused."""

from hypothesis import given
from hypothesis import strategies as st

from common.errors import ChangeTrackingError
from common.extent import Extent, normalise
from source_agent.vsphere.changed_extents import collect
from source_agent.vsphere.memory_disk import MemoryDisk
from source_agent.vsphere.port import ChangedPage

SECTOR = 512
SECTORS = 4096
CAPACITY = SECTORS * SECTOR

areas = st.lists(
    st.tuples(st.integers(0, SECTORS - 1), st.integers(1, 64)).map(
        lambda pair: Extent(pair[0] * SECTOR, min(pair[1], SECTORS - pair[0]) * SECTOR)
    ),
    max_size=60,
)


def tracker(tmp, writes, unit):
    """A disk's change log with the writes in it, without any file."""
    made = MemoryDisk(2000, tmp, "[m] d.vmdk", CAPACITY, "disk", tracked_bytes=unit, tracked=True)
    made.log = [(2, extent) for extent in writes]
    made.number = 3
    return made


@given(writes=areas, page_areas=st.integers(1, 70))
def test_any_page_size_gives_all_changes(tmp_path_factory, writes, page_areas):
    disk = tracker(tmp_path_factory.getbasetemp() / "none", writes, SECTOR)
    since, until = f"{disk.run}/1", f"{disk.run}/2"
    pages = []

    def ask(offset):
        pages.append(disk.page(since, until, offset, page_areas, CAPACITY))
        return pages[-1]

    assert collect(ask, CAPACITY, "disk") == normalise(writes)
    assert sum(page.length for page in pages) == CAPACITY
    assert all(len(page.areas) <= page_areas for page in pages)


numbers = st.integers(-SECTOR, CAPACITY + SECTOR)
any_page = st.builds(
    ChangedPage,
    offset=numbers,
    length=numbers,
    areas=st.lists(
        st.builds(Extent, st.integers(0, CAPACITY + SECTOR), st.integers(0, CAPACITY + SECTOR)), max_size=5
    ).map(tuple),
)


@given(answers=st.lists(any_page, min_size=1, max_size=30))
def test_rubbish_is_refused_or_covers_the_disk(answers):
    seen = []

    def ask(offset):
        assert 0 <= offset < CAPACITY
        seen.append(answers[len(seen) % len(answers)])
        return seen[-1]

    try:
        found = collect(ask, CAPACITY, "disk")
    except ChangeTrackingError:
        return
    assert found == normalise(area for page in seen for area in page.areas)
    assert sum(page.length for page in seen) == CAPACITY
    assert all(area.end <= CAPACITY for area in found)


@given(writes=areas.filter(bool), page_areas=st.integers(1, 5), lie=st.data())
def test_one_wrong_number_in_a_page_never_loses_a_change(tmp_path_factory, writes, page_areas, lie):
    disk = tracker(tmp_path_factory.getbasetemp() / "none", writes, SECTOR)
    since, until = f"{disk.run}/1", f"{disk.run}/2"
    honest = []

    def count(offset):
        honest.append(disk.page(since, until, offset, page_areas, CAPACITY))
        return honest[-1]

    collect(count, CAPACITY, "disk")
    victim = lie.draw(st.integers(0, len(honest) - 1))
    shift = lie.draw(st.integers(-8, 8).filter(bool)) * SECTOR
    page = honest[victim]
    bent = lie.draw(st.sampled_from(["offset", "length"]))
    honest[victim] = ChangedPage(
        page.offset + (shift if bent == "offset" else 0), page.length + (shift if bent == "length" else 0), page.areas
    )
    given_out = iter(honest)

    def ask(offset):
        try:
            return next(given_out)
        except StopIteration:
            return disk.page(since, until, offset, page_areas, CAPACITY)

    try:
        found = collect(ask, CAPACITY, "disk")
    except ChangeTrackingError:
        return
    assert found == normalise(writes)
