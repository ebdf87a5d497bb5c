import pytest

from common.errors import PreconditionError
from source_agent.bookmark import Bookmark, check, load, save

VM = "11111111-1111-4111-8111-111111111111"
OLD, NEW = Bookmark(3, b"\x01" * 32), Bookmark(4, b"\x02" * 32)


def test_what_was_saved_is_loaded(tmp_path):
    assert load(tmp_path, VM) is None
    save(tmp_path, VM, OLD)
    save(tmp_path, VM, NEW)
    assert load(tmp_path, VM) == NEW
    (tmp_path / f"vm-{VM}.json").write_text("half a fi")
    assert load(tmp_path, VM) is None


@pytest.mark.parametrize("newest", [NEW, Bookmark(5, b"\x09" * 32)])
def test_the_same_or_more_is_fine(newest):
    check(NEW, newest, "web01")
    check(None, newest, "web01")
    check(None, None, "web01")


@pytest.mark.parametrize(
    ("newest", "shown"), [(None, "no point at all"), (OLD, "point 3"), (Bookmark(4, b"\x09" * 32), "point 4")]
)
def test_less_or_another_is_refused(newest, shown):
    with pytest.raises(PreconditionError, match=f"shows {shown}.*committed point 4.*02020202.*--accept-rollback"):
        check(NEW, newest, "web01")
