"""From a point to a running, encrypted VM of the target site's vCenter, for real and as a test."""

from pathlib import Path

import pytest
from cryptography import x509

from common.errors import DamagedError
from target_appliance.identity.signing import check, fingerprint_of
from target_appliance.native.command import RESULT_KIND
from tests.end_to_end.failing_over import Both, both, world
from tests.lab.target_site import NATIVE_PROVIDER, STANDARD_PROVIDER
from tests.lab.vim import connected, disks

__all__ = ["both", "world"]
pytestmark = pytest.mark.lab


def test_a_point_becomes_a_vm_under_the_sites_own_keys(both: Both):
    report = both.done("--verify")

    (vm,) = both.vms().values()
    keys = [vm["home"], *vm["disks"].values()]
    assert {key.providerId.id for key in keys} == {STANDARD_PROVIDER}
    assert {both.site.kms.state(key.keyId) for key in keys} == {"active"}
    with connected(both.pair.lab) as source:
        web01 = source.vm("web01")
        theirs = [web01.config.keyId, *(disk.backing.keyId for disk in disks(web01))]
    assert STANDARD_PROVIDER not in {key.providerId.id for key in theirs}
    assert [one["key"]["id"] for one in report["disks"]] == [key.keyId for key in keys[1:]]
    assert vm["power"] == "poweredOn"
    assert vm["shape"] == (6, 2048, "debian12_64Guest", "efi", True)
    assert vm["networks"] == ["NetworkBackingInfo"]
    assert both.equal("web01")
    assert both.site.attached() == []
    assert report["written_bytes"] < sum(one["capacity_bytes"] for one in report["disks"])
    assert both.written() < report["written_bytes"] + (1 << 20)  # holes stay holes


def test_a_test_is_removed_by_itself_and_leaves_a_signed_result(both: Both):
    report = both.done("--test")

    assert (both.vms(), both.site.attached(), report["removed"]) == ({}, [], True)
    content = Path(report["result"]).read_bytes()
    authority = x509.load_pem_x509_certificate((both.pair.folder / "agent" / "ca.crt").read_bytes())
    signed = check(content, RESULT_KIND, [fingerprint_of(authority)])
    assert (signed.body["point"], signed.body["running"], signed.body["test"]) == (1, True, True)
    with pytest.raises(DamagedError):
        check(content.replace(b'"point":1', b'"point":2'), RESULT_KIND, [fingerprint_of(authority)])


def test_a_test_is_isolated_and_beside_the_real_one(both: Both):
    both.done()

    report = both.done("--test", "--keep")

    vms = both.vms()
    assert vms.pop("web01")["networks"] == ["NetworkBackingInfo"]
    assert list(vms) == [report["vm"]]
    assert vms[report["vm"]]["networks"] == ["DistributedVirtualPortBackingInfo"]
    assert both.equal(report["vm"])
    assert both.done("--clean-up", "--test") == {"removed": True}
    assert list(both.vms()) == ["web01"]


def test_the_native_provider_makes_the_keys(both: Both):
    text = both.pair.config.read_text()
    both.pair.config.write_text(text.replace(STANDARD_PROVIDER, NATIVE_PROVIDER))
    try:
        note = both.done("--plan")["findings"][0]
        both.done()
    finally:
        both.pair.config.write_text(text)

    assert (note["blocks"], "derived on the hosts" in note["what"]) == (False, True)
    (vm,) = both.vms().values()
    assert {key.providerId.id for key in [vm["home"], *vm["disks"].values()]} == {NATIVE_PROVIDER}
    assert both.equal("web01")
