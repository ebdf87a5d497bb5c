from source_agent import measured
from source_agent.measured import Measured
from source_agent.plan import Kind

VM = "4c4c4544-0042-5a10-8030-b4c04f564d31"
ONE = {Kind.FULL: Measured(1, 2, 3.5, None), Kind.DELTA: Measured(4, 5, 6.0, 7.0)}


def test_what_is_kept_comes_back(tmp_path):
    measured.save(tmp_path, VM, ONE)
    assert measured.load(tmp_path, VM) == ONE


def test_nothing_or_rubbish_is_nothing_known(tmp_path):
    assert measured.load(tmp_path, VM) == {}
    for text in ("", "[]", "{", '{"full": 1}', '{"sideways": {}}', '{"full": {"bytes_read": 1}}'):
        (tmp_path / f"vm-{VM}.measured.json").write_text(text)
        assert measured.load(tmp_path, VM) == {}
