"""A disk of the new VM at the appliance's own VM: attached, written, and taken off again whatever happens."""

from collections.abc import Callable
from pathlib import Path

from common.clock import Clock
from common.errors import KeysapartError
from common.vsphere.disk import DiskFile
from common.vsphere.locate import Locator
from target_appliance.native.journal import Journal
from target_appliance.native.made import MadeVm
from target_appliance.native.section import VCenterSection
from target_appliance.native.vcenter import TargetVCenter


class Attached:
    """Over one session; ``failpoint`` is called around each attach and detach."""

    def __init__(
        self,
        vcenter: TargetVCenter,
        section: VCenterSection,
        journal: Journal,
        clock: Clock,
        failpoint: Callable[[str], None],
    ) -> None:
        self._vcenter = vcenter
        self._journal = journal
        self._locator = Locator(clock, section.device_dir, side=section.settings.side)
        self._failpoint = failpoint

    def write(self, appliance: str, vm: MadeVm, disk: DiskFile, write: Callable[[Path], int]) -> int:
        """What ``write`` returns for the disk's device; detached afterwards, as far as the vCenter can be reached."""
        try:
            node = self._attach(appliance, disk)
            written = write(node)
            self._locator.forget(node)
        except BaseException as error:
            self._give_back(appliance, vm, error)
            raise
        self.release(appliance, vm)
        self._locator.wait_gone(node)
        return written

    def release(self, appliance: str, vm: MadeVm) -> None:
        """Take every disk of the VM off the appliance's."""
        paths = [one.path for one in vm.disks]
        for key in self._vcenter.attached(appliance, paths):
            self._failpoint("detach")
            self._vcenter.detach(appliance, key)
            self._failpoint("after detach")

    def _attach(self, appliance: str, disk: DiskFile) -> Path:
        with self._journal.attaching():
            before = self._locator.present()
            self._failpoint("attach")
            attached = self._vcenter.attach(appliance, disk)
            self._failpoint("after attach")
            return self._locator.find(attached, disk.capacity_bytes, before)

    def _give_back(self, appliance: str, vm: MadeVm, error: BaseException) -> None:
        try:
            self.release(appliance, vm)
        except KeysapartError as failed:
            error.add_note(f"a disk of VM {vm.name} may still be attached to the appliance's VM ({failed.message})")
