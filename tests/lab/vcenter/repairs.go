package main

import (
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// mend fills two enumerations that the simulator sends empty, on which pyVmomi chokes.
func mend(vm *simulator.VirtualMachine) {
	for _, runtime := range []*types.VirtualMachineRuntimeInfo{&vm.Runtime, &vm.Summary.Runtime} {
		runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
		runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
	}
}

// promises are the keys that VMs being created were asked to be encrypted with: the simulator forgets a key that is
// named, and leaves the VM silently in the clear.
type promises struct {
	mu   sync.Mutex
	keys map[string]types.CryptoKeyId // by VM name
}

// note remembers what a creation asks for.
func (p *promises) note(method *simulator.Method) {
	create, ok := method.Body.(*types.CreateVM_Task)
	if !ok {
		return
	}
	if encrypt, ok := create.Config.Crypto.(*types.CryptoSpecEncrypt); ok && encrypt.CryptoKeyId.KeyId != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.keys[create.Config.Name] = encrypt.CryptoKeyId
	}
}

// keep does it, when the VM is there; disks that were to be encrypted with a key of vCenter's choice get the VM's.
func (p *promises) keep(vm *mo.VirtualMachine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if key, ok := p.keys[vm.Name]; ok && vm.Config.KeyId == nil {
		vm.Config.KeyId = &key
	}
	delete(p.keys, vm.Name)
	for _, device := range vm.Config.Hardware.Device {
		virtual, ok := device.(*types.VirtualDisk)
		if !ok || vm.Config.KeyId == nil {
			continue
		}
		backing, ok := virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if ok && backing.KeyId != nil && backing.KeyId.KeyId == "" {
			backing.KeyId = vm.Config.KeyId
		}
	}
}
