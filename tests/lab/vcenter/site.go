package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

type ref = types.ManagedObjectReference

// site is what the simulator does not know: which files lie behind its disks.
//
// The mutex guards everything below it. It is never held while the simulator's own objects are updated, because such
// an update calls back into the hooks.
type site struct {
	config    *config
	faults    *faults
	denials   denials
	misdeeds  misdeeds
	providers *providers

	mu        sync.Mutex
	machines  map[ref]*machine
	unit      int64         // tracking unit, bytes
	plugDelay time.Duration // until a guest sees a disk come or go
	datastore string        // the simulator's folder of descriptors
	answers   string        // how change queries misbehave; empty: not at all
}

// machine is one VM with its disks.
type machine struct {
	self    ref
	spec    machineSpec
	dir     string
	created bool // by a client, not by the lab
	disks   map[int32]*disk
	// frozen says for each snapshot which layer of each disk is its newest.
	frozen map[ref]map[int32]string
	// doomed are disks being detached with their file's destruction asked for.
	doomed map[int32]bool
	// shown are the links in the device folder, by device key.
	shown map[int32]device
}

// disk is one virtual disk that snapshots can freeze; independent disks and physical RDMs are not here.
type disk struct {
	*stack
	tracking
	key      int32
	capacity int64
	file     diskFile // of the base, as vCenter names it
	attached map[string]bool
	snapped  map[ref]mark
	// descriptor is the text of the base's descriptor file, which also says what it is encrypted with.
	descriptor []byte
}

// mark is what a snapshot remembers of a disk's change tracking.
type mark struct {
	run    string
	length int64
}

// diskFile is a datastore path such as "[LocalDS_0] web01/web01.vmdk".
type diskFile string

// layerFile is the name that vCenter shows for a layer.
func (d *disk) layerFile(layer string) string {
	if layer == "base.raw" {
		return string(d.file)
	}
	number := strings.TrimSuffix(strings.TrimPrefix(layer, "delta-"), ".raw")
	return strings.TrimSuffix(string(d.file), ".vmdk") + "-" + number + ".vmdk"
}

func newSite(c *config) *site {
	return &site{config: c, faults: new(faults), machines: map[ref]*machine{}, unit: 64 << 10, providers: newProviders(c)}
}

// adopt takes charge of a VM that was just created.
func (s *site) adopt(vm *simulator.VirtualMachine, spec machineSpec) error {
	m := &machine{
		self: vm.Self, spec: spec, dir: filepath.Join(s.config.Disks, spec.Name),
		disks: map[int32]*disk{}, frozen: map[ref]map[int32]string{}, doomed: map[int32]bool{},
		shown: map[int32]device{},
	}
	for _, device := range vm.Config.Hardware.Device {
		virtual, ok := device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		backing, ok := virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok || strings.HasPrefix(backing.DiskMode, "independent") {
			continue
		}
		stack, err := newStack(filepath.Join(m.dir, strconv.Itoa(int(virtual.Key))))
		if err != nil {
			return err
		}
		descriptor, err := os.ReadFile(s.local(backing.FileName))
		if err != nil {
			return err
		}
		m.disks[virtual.Key] = &disk{
			stack: stack, descriptor: descriptor, key: virtual.Key, capacity: virtual.CapacityInBytes, file: diskFile(backing.FileName),
			attached: map[string]bool{}, snapped: map[ref]mark{},
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines[m.self] = m
	return nil
}

// named finds a VM by name or moref.
func (s *site) named(name string) (*machine, error) {
	for _, m := range s.machines {
		if m.spec.Name == name || m.self.Value == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("no VM is called %s", name)
}

// owner finds whose layer a datastore path names.
func (s *site) owner(file string) (*machine, *disk, string) {
	for _, m := range s.machines {
		for _, d := range m.disks {
			for _, layer := range d.layers {
				if d.layerFile(layer) == file {
					return m, d, layer
				}
			}
		}
	}
	return nil, nil, ""
}

// stunned runs f while the guest cannot write.
func (m *machine) stunned(f func() error) error {
	lock, err := os.OpenFile(filepath.Join(m.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return f()
}
