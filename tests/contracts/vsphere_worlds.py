"""Protected sites on which the vSphere and block reader contracts are tried: one in memory, and the lab's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from source_agent.vsphere.connection import VCenterSettings, connect
from source_agent.vsphere.memory import MemorySite, MemoryVSphere
from source_agent.vsphere.port import VSphere
from tests.fakes.clock import ManualClock
from tests.lab.site import Lab
from tests.lab.vim import connected

WEB, PLAIN, AGENT_VM = "web01", "plain01", "agent-vm"
"""Encrypted with two disks, the second ending inside a grain; not encrypted; encrypted, and the agent's own."""

GOOD_RELEASE = ("8.0.3", 24022510)


class World(Protocol):
    """A login to a site, and the hands of everybody else on it."""

    vsphere: VSphere
    devices: Path
    elsewhere: str
    """Name of a host on which no VM is at first."""

    def write(self, vm: str, key: int, offset: int, data: bytes) -> None:
        """A guest writes."""

    def image(self, vm: str, key: int) -> bytes:
        """What a guest sees."""

    def reset_tracking(self, vm: str) -> None:
        """As after a crash of the host."""

    def revert(self, vm: str) -> None:
        """Somebody goes back to the newest snapshot."""

    def foreign_snapshot(self, vm: str, name: str) -> None:
        """Somebody else takes one."""

    def deny(self, *privileges: str) -> None:
        """Take these privileges from the login, and no others."""

    def lock_out(self, vm: str, *, on: bool) -> None:
        """Somebody keeps the VM from being moved, or ends that."""

    def tag(self, vm: str, tag: str) -> None:
        """Somebody gives a VM a tag, which is made if need be; only made, without a VM."""

    def untag(self, vm: str, tag: str) -> None:
        """Somebody takes it away; the tag itself goes, without a VM."""

    def migrate(self, vm: str, host: str) -> None:
        """DRS moves the running VM."""

    def upgrade(self, version: str, build: int, *, host: str = "") -> None:
        """The host, or every one, is started anew with another release."""

    def cpus(self, vm: str, count: int) -> None:
        """An administrator gives the VM so many processors."""

    def tracking_unit(self, count: int) -> None:
        """How finely changes are tracked from now on, in bytes."""


class MemoryWorld:
    def __init__(self, folder: Path) -> None:
        self.site = MemorySite(folder)
        self.site.add_vm(WEB, [8 << 20, (24 << 20) + 5 * 512], encrypted=True)
        self.site.add_vm(PLAIN, [8 << 20])
        self.site.add_vm(AGENT_VM, [1 << 20], encrypted=True)
        self.vsphere = MemoryVSphere(self.site)
        self.devices = self.site.device_dir
        self.elsewhere = "esx2"
        self.site.cluster = frozenset({"esx1", "esx2"})
        self._releases = {"esx1": GOOD_RELEASE, "esx2": GOOD_RELEASE}

    def _moref(self, vm: str) -> str:
        return self.vsphere.vm(vm).moref

    def write(self, vm, key, offset, data):
        self.site.write(self._moref(vm), key, offset, data)

    def image(self, vm, key):
        return self.site.image(self._moref(vm), key)

    def reset_tracking(self, vm):
        self.site.reset_tracking(self._moref(vm))

    def revert(self, vm):
        self.site.revert(self._moref(vm))

    def foreign_snapshot(self, vm, name):
        self.site.add_foreign_snapshot(self._moref(vm), name)

    def deny(self, *privileges):
        self.site.denied = frozenset(privileges)

    def lock_out(self, vm, *, on):
        self.site.machines[self._moref(vm)].relocation_disabled = on

    def tag(self, vm, tag):
        held = self.site.tags.setdefault(tag, set())
        if vm:
            held.add(self._moref(vm))

    def untag(self, vm, tag):
        if vm:
            self.site.tags[tag].discard(self._moref(vm))
        else:
            del self.site.tags[tag]

    def migrate(self, vm, host):
        self.site.move(self._moref(vm), host, *self._releases[host])

    def upgrade(self, version, build, *, host=""):
        for one in [host] if host else list(self._releases):
            self._releases[one] = (version, build)
            self.site.upgrade(one, version, build)

    def cpus(self, vm, count):
        self.site.machines[self._moref(vm)].cpus = count

    def tracking_unit(self, count):
        for machine in self.site.machines.values():
            for disk in machine.disks.values():
                disk.tracked_bytes = count


class LabWorld:
    def __init__(self, lab: Lab, vsphere: VSphere) -> None:
        self.lab, self.vsphere = lab, vsphere
        self.devices = lab.folder / "devices"
        self.elsewhere = "127.0.0.12"

    def write(self, vm, key, offset, data):
        self.lab.guest(vm, key).write(offset, data)

    def image(self, vm, key):
        guest = self.lab.guest(vm, key)
        return guest.read(0, guest.size)

    def reset_tracking(self, vm):
        self.lab.control("reset-cbt", vm)

    def revert(self, vm):
        self.lab.control("revert", vm)

    def foreign_snapshot(self, vm, name):
        self.lab.control("snapshot", vm, name)

    def deny(self, *privileges):
        self.lab.control("allow")
        for privilege in privileges:
            self.lab.control("deny", privilege, "--user", self.lab.vcenter.user)

    def lock_out(self, vm, *, on):
        self.lab.control("disable-method", vm, "RelocateVM_Task", *([] if on else ["--off"]))

    def tag(self, vm, tag):
        self.lab.control("tag", *([vm] if vm else []), tag.replace(":", "/"))

    def untag(self, vm, tag):
        self.lab.control("untag", *([vm] if vm else []), tag.replace(":", "/"))

    def migrate(self, vm, host):
        self.lab.control("migrate", vm, host)

    def upgrade(self, version, build, *, host=""):
        self.lab.control("host", version, build, *(["--host", host] if host else []))

    def cpus(self, vm, count):
        with connected(self.lab) as admin:
            admin.reconfigure(admin.vm(vm), numCPUs=count)

    def tracking_unit(self, count):
        self.lab.control("tracking-unit", count)


def settings(lab: Lab, **changes: object) -> VCenterSettings:
    """How the lab's vCenter is reached."""
    values: dict[str, object] = {
        "host": lab.vcenter.host,
        "port": lab.vcenter.port,
        "user": lab.vcenter.user,
        "password_file": lab.vcenter.password_file,
        "ca_file": lab.vcenter.ca_file,
        "timeout_seconds": 20.0,
        **changes,
    }
    return VCenterSettings(**values)  # type: ignore[arg-type]


@contextmanager
def in_lab(lab: Lab) -> Iterator[LabWorld]:
    """The lab as a world; afterwards it is as it was, but for what guests wrote and tracking that is on.

    The clock does not wait: what is asked for again and again is asked at once.
    """
    vsphere = connect(settings(lab), ManualClock())
    try:
        yield LabWorld(lab, vsphere)
    finally:
        vsphere.close()
        lab.control("clear-faults")
        lab.control("allow")
        lab.control("answers", "well")
        lab.control("tracking-unit", 65536)
        lab.control("plug-delay", 0)
        lab.control("host", *GOOD_RELEASE)
        clean(lab)


def clean(lab: Lab) -> None:
    """Detach and remove everything, over a login of its own."""
    vsphere = connect(settings(lab), ManualClock())
    try:
        agent = vsphere.vm(AGENT_VM).moref
        for orphan in lab.control("orphans"):
            vsphere.detach_disk(agent, orphan["key"])
        for name in (WEB, PLAIN):
            vm = vsphere.vm(name)
            for snapshot in reversed(vm.snapshots):
                vsphere.remove_snapshot(vm.moref, snapshot.moref)
    finally:
        vsphere.close()
