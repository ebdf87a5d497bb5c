import io
import json
from pathlib import Path

import pytest

from common.errors import PreconditionError
from common.sought import Search, Sought
from source_agent.evidence import sought_of, to_file
from source_agent.vsphere.memory import MemorySite, MemoryVSphere
from tests.fakes.clock import ManualClock

AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


@pytest.fixture
def site(tmp_path: Path) -> MemorySite:
    made = MemorySite(tmp_path)
    made.add_vm("web01", [1 << 20], encrypted=True)
    made.add_vm("plain01", [1 << 20])
    return made


def test_the_file_finds_the_keys_name_and_does_not_tell_it(site: MemorySite) -> None:
    vsphere = MemoryVSphere(site)
    content = to_file(sought_of(vsphere, "web01", AGENT, ManualClock()))
    assert site.key_id.encode() not in content
    assert site.providers[0].encode() not in content
    members = json.loads(content)
    assert (members["key_ids"], members["key_providers"], members["agent"]) == (1, 1, AGENT)
    assert members["replica"] == vsphere.vm("web01").instance_uuid
    search = Search(Sought.parse(members))
    search.file("x", io.BytesIO(b"..." + site.key_id.encode() + site.providers[0].encode()).read)
    assert {pattern.kind for _, _, pattern in search.seen.hits} == {"key id", "key provider"}


def test_without_any_name_there_is_nothing_to_look_for(site: MemorySite) -> None:
    site.providers = ("kms",)
    with pytest.raises(PreconditionError, match="could be looked for"):
        sought_of(MemoryVSphere(site), "plain01", AGENT, ManualClock())
