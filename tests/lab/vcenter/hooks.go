package main

import (
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// hooks are how the simulator tells us what happens in its inventory.
//
// Methods are added and replaced through the registry of the caller's session: the simulator asserts the concrete type
// of what stands in the main registry in some fifty places, and a wrapper there panics the process.
type hooks struct {
	site     *site
	promises promises

	mu      sync.Mutex
	wrapped map[ref][]*simulator.Registry
	calls   map[string]int
}

func newHooks(s *site) *hooks {
	return &hooks{site: s, wrapped: map[ref][]*simulator.Registry{}, calls: map[string]int{},
		promises: promises{keys: map[string]types.CryptoKeyId{}}}
}

// Reference is the name the simulator files the hooks under.
func (*hooks) Reference() ref { return ref{Type: "LabHooks", Value: "hooks"} }

// count notes a call for those who ask how often there were any.
func (h *hooks) count(method string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[method]++
}

// handle is asked before each call: it injects faults, and puts our methods where the call will find them.
func (h *hooks) handle(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	h.count(method.Name)
	if fault := h.site.faults.call(method); fault != nil {
		return nil, fault
	}
	if fault := h.site.forbidden(ctx, method); fault != nil {
		return nil, fault
	}
	if fault := h.site.complete(method); fault != nil {
		return nil, fault
	}
	h.promises.note(method)
	if ctx.Session != nil && ctx.Session.Registry.Get(method.This) == nil {
		if object := h.wrap(ctx.Map.Get(method.This)); object != nil {
			ctx.Session.Registry.Put(object)
			h.mu.Lock()
			h.wrapped[method.This] = append(h.wrapped[method.This], ctx.Session.Registry)
			h.mu.Unlock()
		}
	}
	return nil, nil
}

func (h *hooks) wrap(object mo.Reference) mo.Reference {
	switch raw := object.(type) {
	case *simulator.VirtualMachine:
		h.site.mu.Lock()
		defer h.site.mu.Unlock()
		if m := h.site.machines[raw.Self]; m != nil {
			return &virtualMachine{raw, h.site, m}
		}
	case *simulator.VirtualMachineSnapshot:
		return &snapshot{raw, h.site}
	case *simulator.AuthorizationManager:
		return &authorization{raw, h.site}
	case *simulator.CryptoManagerKmip:
		return &cryptoManager{raw, h.site}
	case *simulator.Folder:
		return &folder{raw, h.site}
	}
	return nil
}

// PutObject sees every new object before anybody else does.
func (h *hooks) PutObject(ctx *simulator.Context, object mo.Reference) {
	switch raw := object.(type) {
	case *simulator.VirtualMachine:
		mend(raw)
	case *simulator.VirtualMachineSnapshot:
		h.site.freeze(ctx, raw)
	}
}

// UpdateObject sees every change, before the task behind it completes.
func (h *hooks) UpdateObject(_ *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	vm, ok := object.(*mo.VirtualMachine)
	if !ok {
		return
	}
	for _, change := range changes {
		switch change.Name {
		case "config.hardware.device":
			h.site.grown(vm)
			h.site.settle(vm.Self, vm.Config.Hardware.Device)
		case "name": // the last thing that a creation does
			h.promises.keep(vm)
			h.site.born(vm)
		}
	}
}

// RemoveObject sees objects go.
func (h *hooks) RemoveObject(ctx *simulator.Context, gone ref) {
	h.mu.Lock()
	registries := h.wrapped[gone]
	delete(h.wrapped, gone)
	h.mu.Unlock()
	for _, registry := range registries {
		registry.Remove(ctx, gone)
	}
	switch gone.Type {
	case "VirtualMachineSnapshot":
		h.site.forget(ctx, gone)
	case "VirtualMachine":
		h.site.buried(gone)
	}
}
