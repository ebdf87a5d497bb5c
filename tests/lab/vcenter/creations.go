package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// VMs that clients create: they get files for their disks, keys where the vCenter is to choose them, and misfortunes.

// misdeed is what goes silently wrong with the encryption of whatever is created next.
type misdeed struct {
	What string `json:"what"` // vm or disk
	How  string `json:"how"`  // unset, foreign-provider or foreign-key
}

type misdeeds struct {
	mu   sync.Mutex
	list []misdeed
}

func (m *misdeeds) add(made *misdeed) error {
	if !slices.Contains([]string{"vm", "disk"}, made.What) ||
		!slices.Contains([]string{"unset", "foreign-provider", "foreign-key"}, made.How) {
		return fmt.Errorf("no creation can go wrong so: %s, %s", made.What, made.How)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, *made)
	return nil
}

func (m *misdeeds) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = nil
}

func (m *misdeeds) of(what string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.list {
		if one.What == what {
			return one.How
		}
	}
	return ""
}

// encrypted completes a crypto spec: a key of the vCenter's choice, or what a misdeed makes of it. False: no such key.
func (s *site) encrypted(what string, spec types.BaseCryptoSpec) (types.BaseCryptoSpec, bool) {
	encrypt, ok := spec.(*types.CryptoSpecEncrypt)
	if !ok || s.providers.maker == "" {
		return spec, true
	}
	key := encrypt.CryptoKeyId
	if key.ProviderId == nil {
		key.ProviderId = &types.KeyProviderId{Id: s.providers.standard}
	}
	if key.KeyId == "" {
		made, ok := s.providers.create(key.ProviderId.Id)
		if !ok {
			return nil, false
		}
		key.KeyId = made
	}
	switch s.misdeeds.of(what) {
	case "unset":
		return nil, true
	case "foreign-provider":
		key.ProviderId = &types.KeyProviderId{Id: "somebody-elses-kms"}
	case "foreign-key":
		key.KeyId = "00000000-foreign"
	}
	return &types.CryptoSpecEncrypt{CryptoKeyId: key}, true
}

// complete fills what a request to create or change a VM leaves to the vCenter.
func (s *site) complete(method *simulator.Method) types.BaseMethodFault {
	var spec *types.VirtualMachineConfigSpec
	switch request := method.Body.(type) {
	case *types.CreateVM_Task:
		spec = &request.Config
	case *types.ReconfigVM_Task:
		spec = &request.Spec
	default:
		return nil
	}
	made, ok := s.encrypted("vm", spec.Crypto)
	spec.Crypto = made
	for _, change := range spec.DeviceChange {
		one := change.GetVirtualDeviceConfigSpec()
		if one.Backing == nil {
			continue
		}
		made, known := s.encrypted("disk", one.Backing.Crypto)
		one.Backing.Crypto, ok = made, ok && known
	}
	if !ok {
		return &types.InvalidVmConfig{Property: "configSpec.crypto"}
	}
	return nil
}

// folder creates VMs only where they can be, or not, as a rule says.
type folder struct {
	*simulator.Folder
	site *site
}

func (f *folder) CreateVMTask(ctx *simulator.Context, req *types.CreateVM_Task) soap.HasFault {
	fault := f.site.faults.task("CreateVM_Task")
	if fault == nil && req.Config.Crypto != nil && req.Host != nil {
		host := ctx.Map.Get(*req.Host).(*simulator.HostSystem)
		switch host.Runtime.CryptoState {
		case string(types.HostCryptoStateIncapable):
			fault = &types.InvalidVmConfig{Property: "configSpec.crypto"}
		case string(types.HostCryptoStatePrepared):
			host.Runtime.CryptoState = string(types.HostCryptoStateSafe)
		}
	}
	if fault != nil {
		return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{
			Returnval: failed(ctx, f.Self, "createVm", fault),
		}}
	}
	return f.Folder.CreateVMTask(ctx, req)
}

// born takes charge of a VM that a client created.
func (s *site) born(vm *mo.VirtualMachine) {
	if slices.ContainsFunc(s.config.Machines, func(one machineSpec) bool { return one.Name == vm.Name }) {
		return
	}
	s.mu.Lock()
	if s.machines[vm.Self] == nil {
		dir := filepath.Join(s.config.Disks, vm.Name)
		_ = os.RemoveAll(dir)
		s.machines[vm.Self] = &machine{
			self: vm.Self, spec: machineSpec{Name: vm.Name}, dir: dir, disks: map[int32]*disk{}, created: true,
			frozen: map[ref]map[int32]string{}, doomed: map[int32]bool{}, shown: map[int32]device{},
		}
	}
	s.mu.Unlock()
	s.grown(vm)
}

// grown gives files to disks that a created VM has got since.
func (s *site) grown(vm *mo.VirtualMachine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machines[vm.Self]
	if m == nil || !m.created {
		return
	}
	if vm.Config.KeyId != nil {
		m.spec.KeyID = vm.Config.KeyId.KeyId
	}
	for _, device := range vm.Config.Hardware.Device {
		virtual, ok := device.(*types.VirtualDisk)
		if !ok || m.disks[virtual.Key] != nil {
			continue
		}
		backing, ok := virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok {
			continue
		}
		dir := filepath.Join(m.dir, strconv.Itoa(int(virtual.Key)))
		made, err := emptyStack(dir, virtual.CapacityInBytes)
		if err != nil {
			log.Printf("disk %d of %s: %s", virtual.Key, vm.Name, err)
			continue
		}
		m.disks[virtual.Key] = &disk{
			stack: made, key: virtual.Key, capacity: virtual.CapacityInBytes, file: diskFile(backing.FileName),
			attached: map[string]bool{}, snapped: map[ref]mark{},
		}
	}
}

func emptyStack(dir string, bytes int64) (*stack, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(dir, "base.raw"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := file.Truncate(bytes); err != nil {
		return nil, err
	}
	return newStack(dir)
}

// buried lets go of the files of a created VM that was deleted.
func (s *site) buried(self ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.machines[self]; m != nil && m.created {
		_ = os.RemoveAll(m.dir)
		delete(s.machines, self)
	}
}

// held tells which file of a VM another one has open, if any: neither can it be started then, nor deleted.
func (s *site) held(self ref) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := s.machines[self]
	for _, m := range s.machines {
		for _, shown := range m.shown {
			if m != owner && shown.VM == owner.spec.Name {
				return string(owner.disks[shown.Disk].file)
			}
		}
	}
	return ""
}

func (vm *virtualMachine) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	fault := vm.site.faults.task("PowerOnVM_Task")
	if fault == nil {
		fault = vm.startable(ctx)
	}
	if fault != nil {
		return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{
			Returnval: failed(ctx, vm.Self, "powerOn", fault),
		}}
	}
	return vm.VirtualMachine.PowerOnVMTask(ctx, req)
}

// startable: its host is fit for encrypted VMs, its keys are there, and nobody has its disks.
func (vm *virtualMachine) startable(ctx *simulator.Context) types.BaseMethodFault {
	if file := vm.site.held(vm.Self); file != "" {
		return &types.FileLocked{FileFault: types.FileFault{File: file}}
	}
	if vm.Config.KeyId == nil {
		return nil
	}
	keys := []types.CryptoKeyId{*vm.Config.KeyId}
	for _, device := range vm.Config.Hardware.Device {
		if virtual, ok := device.(*types.VirtualDisk); ok {
			if backing, ok := virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && backing.KeyId != nil {
				keys = append(keys, *backing.KeyId)
			}
		}
	}
	keys = slices.DeleteFunc(keys, vm.site.providers.usable)
	host := ctx.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	if len(keys) > 0 || host.Runtime.CryptoState != string(types.HostCryptoStateSafe) {
		return &types.EncryptionKeyRequired{RequiredKey: keys}
	}
	return nil
}

func (vm *virtualMachine) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	if fault := vm.site.faults.task("PowerOffVM_Task"); fault != nil {
		return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{
			Returnval: failed(ctx, vm.Self, "powerOff", fault),
		}}
	}
	return vm.VirtualMachine.PowerOffVMTask(ctx, req)
}

func (vm *virtualMachine) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	fault := vm.site.faults.task("Destroy_Task")
	if file := vm.site.held(vm.Self); fault == nil && file != "" {
		fault = &types.FileLocked{FileFault: types.FileFault{File: file}}
	}
	if fault != nil {
		return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{
			Returnval: failed(ctx, vm.Self, "destroy", fault),
		}}
	}
	return vm.VirtualMachine.DestroyTask(ctx, req)
}
