package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Hot-add: a disk that is attached to the agent's VM appears in the device folder as a link to what it shows, named
// by SCSI address ("scsi-<bus>:<unit>"), as a guest operating system names it. The links follow the VM's device list,
// whoever changed it.

// device is one link in the device folder.
type device struct {
	Link  string `json:"link"`
	Key   int32  `json:"key"`  // on the agent's VM
	VM    string `json:"vm"`   // whose disk it is
	Disk  int32  `json:"disk"` // its key there
	Layer string `json:"layer"`
	file  string
	spare bool // file was made for the link and goes with it
}

// plug brings the device folder in line with the device list of the agent's VM.
func (s *site) plug(self ref, devices []types.BaseVirtualDevice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machines[self]
	if m == nil || !m.spec.Agent {
		return
	}
	present := map[int32]bool{}
	for _, one := range devices {
		virtual, ok := one.(*types.VirtualDisk)
		if !ok {
			continue
		}
		present[virtual.Key] = true
		if _, known := m.shown[virtual.Key]; known {
			continue
		}
		shown, err := s.link(virtual, devices)
		if err != nil {
			log.Printf("disk %d of %s: %s", virtual.Key, m.spec.Name, err)
			continue
		}
		m.shown[virtual.Key] = shown
	}
	for key, gone := range m.shown {
		if !present[key] {
			s.unlink(m, gone)
			delete(m.shown, key)
		}
	}
}

func (s *site) link(virtual *types.VirtualDisk, devices []types.BaseVirtualDevice) (device, error) {
	bus := int32(-1)
	for _, one := range devices {
		if scsi, ok := one.(types.BaseVirtualSCSIController); ok {
			if controller := scsi.GetVirtualSCSIController(); controller.Key == virtual.ControllerKey {
				bus = controller.BusNumber
			}
		}
	}
	backing, ok := virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok || bus < 0 || virtual.UnitNumber == nil {
		return device{}, errors.New("it is not a file on a SCSI controller")
	}
	owner, d, layer := s.owner(backing.FileName)
	if d == nil {
		return device{}, fmt.Errorf("%s is nobody's", backing.FileName)
	}
	shown := device{
		Link: fmt.Sprintf("scsi-%d:%d", bus, *virtual.UnitNumber), Key: virtual.Key,
		VM: owner.spec.Name, Disk: d.key, Layer: layer, file: d.path(layer),
	}
	if layer != d.layers[0] {
		shown.file, shown.spare = d.path(fmt.Sprintf("attached-%d.raw", virtual.Key)), true
		if err := d.flatten(layer, shown.file); err != nil {
			return device{}, err
		}
	}
	if len(d.layers) > 1 {
		d.attached[layer] = true
	}
	path := filepath.Join(s.config.Devices, shown.Link)
	_ = os.Remove(path)
	return shown, os.Symlink(shown.file, path)
}

func (s *site) unlink(m *machine, gone device) {
	failed := os.Remove(filepath.Join(s.config.Devices, gone.Link))
	if gone.spare {
		failed = errors.Join(failed, os.Remove(gone.file))
	}
	owner, err := s.named(gone.VM)
	if err != nil {
		return
	}
	if d := owner.disks[gone.Disk]; d != nil {
		delete(d.attached, gone.Layer)
		if m.doomed[gone.Key] {
			// What a real host does when asked to: the customer's disk is gone.
			delete(m.doomed, gone.Key)
			failed = errors.Join(failed, os.Remove(d.path(gone.Layer)))
		}
	}
	if failed != nil {
		log.Printf("%s: %s", gone.Link, failed)
	}
}

// orphans are the disks of others that are attached to the agent's VM now.
func (s *site) orphans() []device {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []device{}
	for _, m := range s.machines {
		for _, shown := range m.shown {
			if shown.VM != m.spec.Name {
				found = append(found, shown)
			}
		}
	}
	return found
}

// refuse says why a host would not carry out a reconfiguration, and notes which files it is told to destroy.
func (s *site) refuse(ctx *simulator.Context, m *machine, vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, change := range spec.DeviceChange {
		one := change.GetVirtualDeviceConfigSpec()
		virtual, ok := one.Device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		if one.Operation == types.VirtualDeviceConfigSpecOperationRemove {
			if one.FileOperation == types.VirtualDeviceConfigSpecFileOperationDestroy {
				m.doomed[virtual.Key] = true
			}
			continue
		}
		backing, ok := virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok || one.Operation != types.VirtualDeviceConfigSpecOperationAdd || one.FileOperation != "" {
			continue
		}
		owner, d, layer := s.owner(backing.FileName)
		if d == nil {
			continue
		}
		switch {
		case layer == d.top() && off(ctx, owner.self) && strings.HasSuffix(backing.DiskMode, "persistent"):
			if owner.spec.KeyID != "" && vm.Config.KeyId == nil {
				return &types.InvalidDeviceSpec{
					InvalidVmConfig: types.InvalidVmConfig{Property: "backing.keyId"}, DeviceIndex: int32(i),
				}
			}
		case layer == d.top():
			return &types.FileLocked{FileFault: types.FileFault{File: backing.FileName}} // a running VM writes to it
		case backing.DiskMode != string(types.VirtualDiskModeIndependent_nonpersistent):
			return &types.InvalidDeviceSpec{
				InvalidVmConfig: types.InvalidVmConfig{Property: "backing.diskMode"}, DeviceIndex: int32(i),
			}
		case owner.spec.KeyID != "" && vm.Config.KeyId == nil:
			return &types.InvalidDeviceSpec{
				InvalidVmConfig: types.InvalidVmConfig{Property: "backing.keyId"}, DeviceIndex: int32(i),
			}
		}
	}
	return nil
}

// off tells whether a VM is powered off, so that its disks are nobody's to write to.
func off(ctx *simulator.Context, self ref) bool {
	vm, ok := ctx.Map.Get(self).(*simulator.VirtualMachine)
	return ok && vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
}

// settle waits for what a guest's kernel needs to show a disk, before the links change.
func (s *site) settle(self ref, devices []types.BaseVirtualDevice) {
	s.mu.Lock()
	delay := s.plugDelay
	s.mu.Unlock()
	if delay == 0 {
		s.plug(self, devices)
		return
	}
	time.AfterFunc(delay, func() { s.plug(self, devices) })
}
