package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// virtualMachine is a VM with the methods that the simulator lacks or does too kindly.
type virtualMachine struct {
	*simulator.VirtualMachine
	site    *site
	machine *machine
}

// snapshot is a snapshot whose removal may be made to fail.
type snapshot struct {
	*simulator.VirtualMachineSnapshot
	site *site
}

// failed starts a task that fails.
func failed(ctx *simulator.Context, entity ref, name string, fault types.BaseMethodFault) ref {
	return simulator.CreateTask(entity, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, fault
	}).Run(ctx)
}

func (vm *virtualMachine) CreateSnapshotTask(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	fault := vm.site.faults.task("CreateSnapshot_Task")
	if fault != nil {
		return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{
			Returnval: failed(ctx, vm.Self, "createSnapshot", fault),
		}}
	}
	return vm.VirtualMachine.CreateSnapshotTask(ctx, req)
}

func (vm *virtualMachine) CreateSnapshotExTask(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	if fault := vm.site.faults.task("CreateSnapshotEx_Task"); fault != nil {
		return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{
			Returnval: failed(ctx, vm.Self, "createSnapshotEx", fault),
		}}
	}
	return vm.VirtualMachine.CreateSnapshotExTask(ctx, req)
}

func (vm *virtualMachine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	fault := vm.site.faults.task("ReconfigVM_Task")
	if fault == nil {
		fault = vm.site.refuse(ctx, vm.machine, vm.VirtualMachine, &req.Spec)
	}
	if fault != nil {
		return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{
			Returnval: failed(ctx, vm.Self, "reconfigVm", fault),
		}}
	}
	return vm.VirtualMachine.ReconfigVMTask(ctx, req)
}

// ConsolidateVMDisksTask merges what snapshots left behind; the simulator has no such method.
func (vm *virtualMachine) ConsolidateVMDisksTask(ctx *simulator.Context, _ *types.ConsolidateVMDisks_Task) soap.HasFault {
	task := simulator.CreateTask(vm.Self, "consolidateVMDisks", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if fault := vm.site.faults.task("ConsolidateVMDisks_Task"); fault != nil {
			return nil, fault
		}
		vm.site.consolidate(ctx, vm.machine)
		return nil, nil
	})
	return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: task.Run(ctx)}}
}

// RevertToCurrentSnapshotTask brings back what the current snapshot froze.
func (vm *virtualMachine) RevertToCurrentSnapshotTask(ctx *simulator.Context, _ *types.RevertToCurrentSnapshot_Task) soap.HasFault {
	var current ref
	if vm.Snapshot != nil && vm.Snapshot.CurrentSnapshot != nil {
		current = *vm.Snapshot.CurrentSnapshot
	}
	return &methods.RevertToCurrentSnapshot_TaskBody{Res: &types.RevertToCurrentSnapshot_TaskResponse{
		Returnval: vm.site.revertTask(ctx, vm.Self, current, "revertToCurrentSnapshot"),
	}}
}

func (s *snapshot) RemoveSnapshotTask(ctx *simulator.Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	fault := s.site.faults.task("RemoveSnapshot_Task")
	if fault == nil && req.RemoveChildren && len(s.ChildSnapshot) > 0 {
		fault = &types.NotSupported{} // the simulator would forget the children's disks
	}
	if fault != nil {
		return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{
			Returnval: failed(ctx, s.Vm, "removeSnapshot", fault),
		}}
	}
	return s.VirtualMachineSnapshot.RemoveSnapshotTask(ctx, req)
}

// RevertToSnapshotTask brings back what the snapshot froze; the simulator would say yes and bring nothing back.
func (s *snapshot) RevertToSnapshotTask(ctx *simulator.Context, _ *types.RevertToSnapshot_Task) soap.HasFault {
	return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{
		Returnval: s.site.revertTask(ctx, s.Vm, s.Self, "revertToSnapshot"),
	}}
}
