package main

import (
	"errors"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// freeze makes a new snapshot real: every disk gets a delta above what the snapshot holds, and where tracking is
// switched on the snapshot's configuration gets change ids. The simulator calls this while the VM is locked and its
// task not yet finished.
func (s *site) freeze(ctx *simulator.Context, snapshot *simulator.VirtualMachineSnapshot) {
	vm, _ := ctx.Map.Get(snapshot.Vm).(*simulator.VirtualMachine)
	s.mu.Lock()
	m := s.machines[snapshot.Vm]
	if vm == nil || m == nil {
		s.mu.Unlock()
		return
	}
	on := vm.Config.ChangeTrackingEnabled != nil && *vm.Config.ChangeTrackingEnabled
	changeIDs := map[int32]string{}
	tops := map[int32]string{}
	err := m.stunned(func() error {
		for key, d := range m.disks {
			tops[key] = d.top()
			length, err := records(filepath.Join(d.dir, "changes.log"))
			if err != nil {
				return err
			}
			switch {
			case !on || !m.spec.Tracking || d.untracked:
				d.stop()
			default:
				if d.run == "" {
					d.start() // switching on takes effect at a stun, and this is one
				}
				changeIDs[key] = d.mark(length)
				d.snapped[snapshot.Self] = mark{d.run, length}
			}
			if err := d.push(d.capacity); err != nil {
				return err
			}
		}
		return nil
	})
	m.frozen[snapshot.Self] = tops
	s.mu.Unlock()
	if err != nil {
		log.Printf("snapshot %s of %s: %s", snapshot.Self.Value, m.spec.Name, err)
	}
	for _, device := range snapshot.Config.Hardware.Device {
		virtual, ok := device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		// Also where there is none: the copy of the VM's configuration bears the live id.
		if backing, ok := virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			backing.ChangeId = changeIDs[virtual.Key]
		}
	}
	s.show(ctx, m)
}

// forget undoes a snapshot that vCenter has just dropped from its tree.
func (s *site) forget(ctx *simulator.Context, snapshot ref) {
	s.mu.Lock()
	var found *machine
	for _, m := range s.machines {
		if _, ok := m.frozen[snapshot]; ok {
			found = m
			delete(m.frozen, snapshot)
			if err := s.unpublish(snapshot); err != nil {
				log.Print(err)
			}
			for _, d := range m.disks {
				delete(d.snapped, snapshot)
			}
		}
	}
	s.mu.Unlock()
	if found != nil {
		s.consolidate(ctx, found)
	}
}

// consolidate merges every delta that no snapshot needs any more. A disk that is attached elsewhere is held: its
// deltas stay, and vCenter says that consolidation is needed, as it does in the field after a backup that forgot to
// detach.
func (s *site) consolidate(ctx *simulator.Context, m *machine) {
	s.mu.Lock()
	held := false
	err := m.stunned(func() error {
		for _, d := range m.disks {
			left, err := m.collapse(d)
			if err != nil {
				return err
			}
			held = held || left
		}
		return nil
	})
	s.mu.Unlock()
	if err != nil {
		log.Printf("consolidating %s: %s", m.spec.Name, err)
		held = true
	}
	s.show(ctx, m)
	if vm, ok := ctx.Map.Get(m.self).(*simulator.VirtualMachine); ok {
		ctx.Update(vm, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: held}})
	}
}

func (m *machine) collapse(d *disk) (held bool, err error) {
	needed := map[string]bool{}
	for _, tops := range m.frozen {
		needed[tops[d.key]] = true
	}
	for i := 0; i+1 < len(d.layers); {
		lower, upper := d.layers[i], d.layers[i+1]
		switch {
		case needed[lower]:
			i++
			continue
		case d.attached[lower] || d.attached[upper]:
			return true, nil
		}
		if err := d.fold(i); err != nil {
			return true, err
		}
		needed[lower] = needed[upper]
		for _, tops := range m.frozen {
			if tops[d.key] == upper {
				tops[d.key] = lower
			}
		}
	}
	return false, nil
}

// show brings the configurations of the VM and its snapshots in line with the layers.
func (s *site) show(ctx *simulator.Context, m *machine) {
	vm, ok := ctx.Map.Get(m.self).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	type names = map[int32][]string // layer names of each disk, from the top
	chains := func(top func(*disk) string) names {
		made := names{}
		for key, d := range m.disks {
			var chain []string
			for _, layer := range d.layers {
				chain = append([]string{d.layerFile(layer)}, chain...)
				if layer == top(d) {
					break
				}
			}
			made[key] = chain
		}
		return made
	}
	s.mu.Lock()
	live := chains((*disk).top)
	ids := map[int32]string{}
	for key, d := range m.disks {
		ids[key] = d.live()
	}
	snapshots := map[ref]names{}
	err := s.describe(m)
	for snapshot, tops := range m.frozen {
		snapshots[snapshot] = chains(func(d *disk) string { return tops[d.key] })
		err = errors.Join(err, s.publish(m, snapshot, tops))
	}
	s.mu.Unlock()

	if err != nil {
		log.Printf("descriptors of %s: %s", m.spec.Name, err)
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "config.hardware.device", Val: rebased(vm.Config.Hardware.Device, live, ids)},
	})
	for snapshot, chain := range snapshots {
		if object, ok := ctx.Map.Get(snapshot).(*simulator.VirtualMachineSnapshot); ok {
			object.Config.Hardware.Device = rebased(object.Config.Hardware.Device, chain, nil)
		}
	}
}

// rebased copies a device list with the disks' files renamed, and with other change ids where ids is given. Readers may
// hold the old list, so nothing in it changes.
func rebased(
	devices []types.BaseVirtualDevice, chains map[int32][]string, ids map[int32]string,
) []types.BaseVirtualDevice {
	changed := make([]types.BaseVirtualDevice, len(devices))
	copy(changed, devices)
	for i, device := range devices {
		virtual, ok := device.(*types.VirtualDisk)
		if !ok || chains[virtual.Key] == nil {
			continue
		}
		old, ok := virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok {
			continue
		}
		moved := *virtual
		backing := chained(old, chains[virtual.Key])
		if ids != nil {
			backing.ChangeId = ids[virtual.Key]
		}
		moved.Backing = backing
		changed[i] = &moved
	}
	return changed
}

func chained(old *types.VirtualDiskFlatVer2BackingInfo, names []string) *types.VirtualDiskFlatVer2BackingInfo {
	backing := *old
	backing.FileName = names[0]
	backing.Parent = nil
	if len(names) > 1 {
		backing.Parent = chained(old, names[1:])
		backing.Parent.ChangeId = ""
	}
	return &backing
}

// describe gives every layer a descriptor in the simulator's datastore, without which it could not be attached. Those
// of bases are there from the start, but the simulator deletes a wrong file now and then when it removes a snapshot: it
// renumbers a VM's files under the snapshots that refer to them by number.
func (s *site) describe(m *machine) error {
	var failed error
	for _, d := range m.disks {
		for _, layer := range d.layers {
			path := s.local(d.layerFile(layer))
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				failed = errors.Join(failed, os.WriteFile(path, d.descriptor, 0o600))
			}
		}
	}
	return failed
}

// local is where a datastore path lies on this machine.
func (s *site) local(file string) string {
	_, path, _ := strings.Cut(file, "] ")
	return filepath.Join(s.datastore, path)
}
