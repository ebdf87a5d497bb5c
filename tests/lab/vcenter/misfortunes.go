package main

import (
	"context"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// misfortunes are orders about what may stand in a sync's way without anything being broken.
func (c *control) misfortunes(mux *http.ServeMux) {
	mux.HandleFunc("POST /deny", func(w http.ResponseWriter, r *http.Request) {
		made := new(denial)
		serve(w, r, made, func() (any, error) { return nil, c.site.denials.add(made) })
	})
	mux.HandleFunc("POST /allow", func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, new(order), func() (any, error) { c.site.denials.clear(); return nil, nil })
	})
	mux.HandleFunc("POST /misdeed", func(w http.ResponseWriter, r *http.Request) {
		made := new(misdeed)
		serve(w, r, made, func() (any, error) { return nil, c.site.misdeeds.add(made) })
	})
	mux.HandleFunc("POST /certificate", func(w http.ResponseWriter, r *http.Request) {
		var shown struct {
			Certificate string `json:"certificate"`
			Key         string `json:"key"`
		}
		serve(w, r, &shown, func() (any, error) { return nil, c.front.show(shown.Certificate, shown.Key) })
	})
	for name, command := range map[string]func(context.Context, order) (any, error){
		"disable-method": c.disableMethod,
		"tools":          c.tools,
		"provider":       func(_ context.Context, o order) (any, error) { return c.changeProvider(o) },
		"host-crypto":    func(_ context.Context, o order) (any, error) { return c.hostCrypto(o) },
		"space":          func(_ context.Context, o order) (any, error) { return c.space(o) },
	} {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			var o order
			serve(w, r, &o, func() (any, error) { return command(r.Context(), o) })
		})
	}
}

// disableMethod locks a method of a VM, as a backup product does with RelocateVM_Task, or unlocks it.
func (c *control) disableMethod(_ context.Context, o order) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	methods := slices.DeleteFunc(slices.Clone(vm.DisabledMethod), func(one string) bool { return one == o.Name })
	if o.On {
		methods = append(methods, o.Name)
	}
	c.locked(vm, types.PropertyChange{Name: "disabledMethod", Val: methods})
	return nil, nil
}

// tools starts VMware Tools in a guest, or stops them.
func (c *control) tools(_ context.Context, o order) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	status := types.VirtualMachineToolsRunningStatusGuestToolsNotRunning
	if o.On {
		status = types.VirtualMachineToolsRunningStatusGuestToolsRunning
	}
	c.locked(vm, types.PropertyChange{Name: "guest.toolsRunningStatus", Val: string(status)})
	return nil, nil
}

// RefreshStorageInfo says how large the files of a VM's disks are; the simulator sees their descriptors alone.
func (vm *virtualMachine) RefreshStorageInfo(ctx *simulator.Context, _ *types.RefreshStorageInfo) soap.HasFault {
	layout := &types.VirtualMachineFileLayoutEx{Timestamp: time.Now()}
	vm.site.mu.Lock()
	for _, key := range slices.Sorted(maps.Keys(vm.machine.disks)) {
		d := vm.machine.disks[key]
		shown := types.VirtualMachineFileLayoutExDiskLayout{Key: key}
		for _, layer := range d.layers {
			file := types.VirtualMachineFileLayoutExFileInfo{
				Key: int32(len(layout.File)), Name: d.layerFile(layer), Type: "diskExtent",
				Size: allocated(filepath.Join(d.dir, layer)),
			}
			layout.File = append(layout.File, file)
			shown.Chain = append(shown.Chain, types.VirtualMachineFileLayoutExDiskUnit{FileKey: []int32{file.Key}})
		}
		layout.Disk = append(layout.Disk, shown)
	}
	vm.site.mu.Unlock()
	ctx.Update(vm.VirtualMachine, []types.PropertyChange{{Name: "layoutEx", Val: layout}})
	return &methods.RefreshStorageInfoBody{Res: &types.RefreshStorageInfoResponse{}}
}

// allocated is what a file takes of its medium; it may be full of holes.
func allocated(path string) int64 {
	var found syscall.Stat_t
	if err := syscall.Stat(path, &found); err != nil {
		return 0
	}
	return found.Blocks * 512
}
