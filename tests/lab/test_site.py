"""A lab that is started again, and labs side by side."""

from pathlib import Path

from tests.lab.site import Lab
from tests.lab.vim import connected


def test_a_second_start_goes_on_with_disks_and_keys(tmp_path: Path):
    with Lab(tmp_path / "lab", disk_mib=2) as lab:
        lab.guest("web01", 2000).write(0, b"first run")
        with connected(lab) as vim:
            vim.snapshot(vim.vm("web01"), "left behind")
        lab.guest("web01", 2000).write(9, b", in a delta")
        lab.control("grow", "plain01", 2000, 3 << 20)
        key = lab.kms.create_key("acme")
    with Lab(tmp_path / "lab", disk_mib=2) as lab:
        assert lab.guest("web01", 2000).read(0, 21) == b"first run, in a delta"
        assert lab.control("snapshots", "web01") == []
        assert lab.machine("plain01").disks[0].size == 3 << 20
        assert lab.kms.state(key) == "active"
        assert [one.name for one in lab.source_kms.list_keys()] == ["web01", "agent-vm"]


def test_labs_run_side_by_side_and_the_source_site_can_be_lost(tmp_path: Path):
    with Lab(tmp_path / "one", disk_mib=1) as one, Lab(tmp_path / "two", disk_mib=1) as two:
        ports = [lab.vcenter.port for lab in (one, two)] + [lab.data_port for lab in (one, two)]
        assert len(set(ports)) == 4
        before = one.source_kms.list_keys()
        one.control("source-site", "stop")
        assert one.kms.list_keys() == []
        with connected(two) as vim:
            assert vim.vm("web01").name == "web01"
        one.control("source-site", "start")
        with connected(one) as vim:
            assert vim.vm("web01").name == "web01"
        assert before
        assert one.source_kms.list_keys() == before
