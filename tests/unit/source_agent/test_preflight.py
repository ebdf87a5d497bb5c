import pytest

from common.errors import PreconditionError
from source_agent.preflight import Setting, Severity, Shut, check, require
from source_agent.privileges import Missing
from source_agent.vsphere.port import Backing, KeyProvider, Lacking, Place
from tests.unit.source_agent.vms import VM, around, disk, node, vm

AGENT_VM = vm(moref="vm-1", name="agent-vm")
CLEAR_AGENT = vm(moref="vm-1", name="agent-vm", encrypted=False)
CLEAR_DISK = disk(encrypted=False)
LACKING = Lacking("Datastore.Browse", Place.DATASTORE, "datastore store of web01")
PLAIN = vm(encrypted=False, disks=(CLEAR_DISK,))

REFUSED = [
    ("template", vm(template=True), Setting()),
    ("hardware-version", vm(hardware_version=6), Setting()),
    ("tracking-unsupported", vm(tracking_supported=False), Setting()),
    ("no-disks", vm(disks=()), Setting()),
    ("independent-disk", vm(disks=(disk(independent=True),)), Setting()),
    ("physical-rdm", vm(disks=(disk(backing=Backing.PHYSICAL_RDM),)), Setting()),
    ("physical-rdm", vm(disks=(disk(backing=Backing.PHYSICAL_RDM, independent=True),)), Setting()),
    ("unknown-backing", vm(disks=(disk(backing=Backing.OTHER),)), Setting()),
    ("virtual-rdm", vm(disks=(disk(backing=Backing.VIRTUAL_RDM),)), Setting()),
    ("shared-bus", vm(disks=(disk(shared_bus=True),)), Setting()),
    ("ide-disk", vm(disks=(disk(adapter="ide"),)), Setting()),
    ("capacity-sectors", vm(disks=(disk(capacity_bytes=1000),)), Setting()),
    ("capacity-sectors", vm(disks=(disk(capacity_bytes=0),)), Setting()),
    ("capacity-limit", vm(disks=(disk(capacity_bytes=(62 << 40) + 512),)), Setting()),
    ("snapshots-before-tracking", vm(tracking_enabled=False, snapshots=(node("old"),)), Setting()),
    ("agent-not-encrypted", VM, Setting(agent_vm=CLEAR_AGENT)),
    ("agent-not-encrypted", vm(encrypted=False), Setting(agent_vm=CLEAR_AGENT)),
    ("agent-itself", VM, Setting(agent_vm=VM)),
    ("agent-not-encrypted", VM, Setting(transport="vddk-hotadd", agent_vm=CLEAR_AGENT)),
    ("ide-disk", vm(disks=(disk(adapter="ide"),)), Setting(transport="vddk-hotadd")),
    ("host-port", VM, Setting(around=around(host="esx1"), shut=(Shut("esx1", 902, "timed out", needed=True),))),
    ("privilege", VM, Setting(missing=(Missing("read changed blocks", (LACKING,)),))),
]
WARNED = [
    ("host-port", VM, Setting(around=around(host="esx1"), shut=(Shut("esx1", 443, "timed out", needed=False),))),
    ("other-host-port", VM, Setting(around=around(host="esx1"), shut=(Shut("esx2", 902, "refused", needed=True),))),
    ("foreign-snapshots", vm(snapshots=(node("old"),)), Setting()),
    ("consolidation-needed", vm(consolidation_needed=True), Setting()),
    ("vtpm", vm(has_vtpm=True), Setting()),
    ("quiesce-encrypted", VM, Setting(quiesce=True)),
    ("quiesce-without-tools", PLAIN, Setting(quiesce=True, around=around(tools_running=False))),
    ("lockout", VM, Setting(around=around(relocation_disabled=True))),
    ("known-bad-host", vm(host_version="6.0.0", host_build=3029758), Setting()),
]
NOTED = [
    ("vsan", VM, Setting(around=around(vsan_datastores=("vsanDatastore",))), "vsanDatastore"),
    ("key-provider", VM, Setting(around=around(key_provider=KeyProvider.STANDARD)), "KMIP"),
    ("key-provider", VM, Setting(around=around(key_provider=KeyProvider.NATIVE)), "native"),
    ("key-provider", VM, Setting(around=around(key_provider=KeyProvider.TRUST_AUTHORITY)), "Trust Authority"),
    ("key-provider", VM, Setting(around=around(key_provider=KeyProvider.UNKNOWN)), "may not see"),
]


@pytest.mark.parametrize(("rule", "machine", "setting"), REFUSED)
def test_refusals(rule, machine, setting):
    (finding,) = check(machine, setting)
    assert (finding.severity, finding.rule) == (Severity.REFUSE, rule)
    assert machine.name in finding.sentence
    assert finding.remedy[0].islower()
    assert not finding.remedy.endswith(".")
    with pytest.raises(PreconditionError) as refused:
        require(machine, (finding,))
    assert finding.sentence in str(refused.value)
    assert finding.remedy in str(refused.value)


@pytest.mark.parametrize(("rule", "machine", "setting"), WARNED)
def test_warnings_let_the_sync_pass(rule, machine, setting):
    (finding,) = check(machine, setting)
    assert (finding.severity, finding.rule) == (Severity.WARN, rule)
    require(machine, (finding,))


@pytest.mark.parametrize(("rule", "machine", "setting", "word"), NOTED)
def test_notes_ask_for_nothing(rule, machine, setting, word):
    (finding,) = check(machine, setting)
    assert (finding.severity, finding.rule, finding.remedy) == (Severity.NOTE, rule, "nothing to do")
    assert word in finding.sentence
    require(machine, (finding,))


@pytest.mark.parametrize(
    ("machine", "setting"),
    [
        (VM, Setting()),
        (PLAIN, Setting(around=around(), quiesce=True)),
        (VM, Setting(around=around(tools_running=False))),
        (VM, Setting(agent_vm=AGENT_VM)),
        (PLAIN, Setting(agent_vm=CLEAR_AGENT, quiesce=True)),
        (vm(tracking_enabled=False), Setting()),
        (vm(disks=(disk(capacity_bytes=62 << 40),)), Setting()),
        (
            vm(tracking_enabled=False, snapshots=(node("ours", moref="snapshot-3"),)),
            Setting(own_snapshots=frozenset({"snapshot-3"})),
        ),
        (vm(disks=(disk(adapter="ide"),)), Setting(transport="vddk-nbdssl", agent_vm=CLEAR_AGENT)),
        (vm(disks=(disk(backing=Backing.VIRTUAL_RDM),)), Setting(transport="vddk-nbdssl")),
    ],
)
def test_no_finding(machine, setting):
    assert check(machine, setting) == ()


def test_every_finding_is_told_at_once_and_refusals_come_first():
    machine = vm(has_vtpm=True, template=True, disks=(disk(independent=True), disk(key=2001, independent=True)))
    found = check(machine, Setting())
    assert [one.rule for one in found] == ["template", "independent-disk", "independent-disk", "vtpm"]
    with pytest.raises(PreconditionError) as refused:
        require(machine, found)
    message = str(refused.value)
    assert "key 2000" in message
    assert "key 2001" in message
    assert message.count("set the disk's mode to dependent") == 1
    assert "TPM" not in message
