package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// What administrators do to a VM between two syncs, and what change tracking then does not tell.

// revertTask brings a snapshot's content back. Change tracking stays silent about it, as it did in vSphere 4.
func (s *site) revertTask(ctx *simulator.Context, vm, to ref, name string) ref {
	return simulator.CreateTask(vm, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		s.mu.Lock()
		m := s.machines[vm]
		var err error
		if m == nil || m.frozen[to] == nil {
			err = errors.New("no such snapshot")
		} else {
			err = m.revert(to)
		}
		s.mu.Unlock()
		if err != nil {
			return nil, &types.NotSupported{}
		}
		s.show(ctx, m)
		return nil, nil
	}).Run(ctx)
}

// revert drops every disk's live delta for an empty one. Only the newest snapshot can be gone back to: a stack of
// layers has no branches.
func (m *machine) revert(to ref) error {
	for key, d := range m.disks {
		if at := slices.Index(d.layers, m.frozen[to][key]); at < 0 || at != len(d.layers)-2 {
			return fmt.Errorf("%s is not the newest snapshot of %s", to.Value, m.spec.Name)
		}
	}
	return m.stunned(func() error {
		for _, d := range m.disks {
			gone := d.top()
			d.layers = d.layers[:len(d.layers)-1]
			err := errors.Join(os.Remove(d.path(gone)), os.Remove(d.mapPath(gone)), d.push(d.capacity))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// revert goes back to the newest snapshot, as another user of the vCenter would.
func (c *control) revert(ctx context.Context, o order) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	client, err := vim25.NewClient(ctx, c.service)
	if err != nil {
		return nil, err
	}
	task, err := object.NewVirtualMachine(client, vm.Self).RevertToCurrentSnapshot(ctx, true)
	if err != nil {
		return nil, err
	}
	return nil, task.Wait(ctx)
}

// dropSnapshots removes all snapshots, as another user would.
func (c *control) dropSnapshots(ctx context.Context, o order) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	client, err := vim25.NewClient(ctx, c.service)
	if err != nil {
		return nil, err
	}
	yes := true
	task, err := object.NewVirtualMachine(client, vm.Self).RemoveAllSnapshot(ctx, &yes)
	if err != nil {
		return nil, err
	}
	return nil, task.Wait(ctx)
}

// altered changes a disk that no snapshot holds, and shows it.
func (c *control) altered(o order, change func(*machine, *disk) error) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	c.site.mu.Lock()
	m, d, err := c.found(o)
	switch {
	case err != nil:
	case d == nil:
		err = fmt.Errorf("%s: which disk?", o.VM)
	case len(d.layers) > 1:
		err = fmt.Errorf("%s has snapshots", o.VM)
	default:
		err = change(m, d)
	}
	c.site.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c.shown(vm, m)
	return nil, nil
}

// shown brings vCenter's view of a VM in line with the site's.
func (c *control) shown(vm *simulator.VirtualMachine, m *machine) {
	ctx := &simulator.Context{Context: context.Background(), Map: c.registry}
	ctx.WithLock(vm, func() { c.site.show(ctx, m) })
}

// relocate puts a disk's file elsewhere, as a storage vMotion does, and the next time back again.
func (c *control) relocate(_ context.Context, o order) (any, error) {
	return c.altered(o, func(_ *machine, d *disk) error {
		const there, away = ".vmdk", "-moved.vmdk"
		if stem, moved := strings.CutSuffix(string(d.file), away); moved {
			d.file = diskFile(stem + there)
		} else {
			d.file = diskFile(strings.TrimSuffix(string(d.file), there) + away)
		}
		return nil
	})
}

// replace puts another disk in a disk's place, under the same key and file name: another UUID, and no tracking run
// that anybody knows.
func (c *control) replace(_ context.Context, o order) (any, error) {
	if _, err := c.altered(o, func(_ *machine, d *disk) error {
		if d.run != "" {
			d.start()
		}
		return nil
	}); err != nil {
		return nil, err
	}
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	devices := append([]types.BaseVirtualDevice{}, vm.Config.Hardware.Device...)
	for i, device := range devices {
		if virtual, ok := device.(*types.VirtualDisk); ok && virtual.Key == o.Key {
			other := *virtual
			backing := *virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
			backing.Uuid = uuid.NewString()
			other.Backing = &backing
			devices[i] = &other
		}
	}
	c.locked(vm, types.PropertyChange{Name: "config.hardware.device", Val: devices})
	return nil, nil
}

// untrack leaves one disk out of change tracking from the next snapshot on, or takes it in again.
func (c *control) untrack(_ context.Context, o order) (any, error) {
	c.site.mu.Lock()
	defer c.site.mu.Unlock()
	_, d, err := c.found(o)
	if err == nil && d == nil {
		err = fmt.Errorf("%s: which disk?", o.VM)
	}
	if err != nil {
		return nil, err
	}
	d.untracked = o.On
	return nil, nil
}
