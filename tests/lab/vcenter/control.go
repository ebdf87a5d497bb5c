package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// control is the tests' door: what no vCenter lets anybody do. Each command is a POST of one JSON object.
type control struct {
	site     *site
	hooks    *hooks
	front    *front
	service  *simulator.Service
	registry *simulator.Registry
	doors    *doors
}

// order holds the arguments of all commands.
type order struct {
	VM      string  `json:"vm"`
	Key     int32   `json:"key"`
	Bytes   int64   `json:"bytes"`
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	On      bool    `json:"on"`
	Host    string  `json:"host"`
	Kind    string  `json:"kind"`
}

func (c *control) routes() http.Handler {
	mux := http.NewServeMux()
	commands := map[string]func(context.Context, order) (any, error){
		"stop":           func(context.Context, order) (any, error) { return nil, c.front.stop() },
		"start":          func(context.Context, order) (any, error) { return nil, c.front.start() },
		"reset-cbt":      c.resetTracking,
		"tracking-unit":  c.trackingUnit,
		"answers":        c.answers,
		"orphans":        func(context.Context, order) (any, error) { return c.site.orphans(), nil },
		"snapshots":      c.snapshots,
		"snapshot":       c.snapshot,
		"consolidation":  c.consolidation,
		"grow":           c.grow,
		"revert":         c.revert,
		"drop-snapshots": c.dropSnapshots,
		"relocate":       c.relocate,
		"replace":        c.replace,
		"untrack":        c.untrack,
		"host":           c.host,
		"migrate":        c.migrate,
		"host-door":      c.hostDoor,
		"plug-delay":     c.plugDelay,
		"expire":         c.expire,
		"tag":            c.tag,
		"untag":          c.untag,
		"tag-api":        c.tagAPI,
		"calls":          c.calls,
		"clear-faults": func(context.Context, order) (any, error) {
			c.site.faults.clear()
			c.site.misdeeds.clear()
			return nil, nil
		},
	}
	for name, command := range commands {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			var o order
			serve(w, r, &o, func() (any, error) { return command(r.Context(), o) })
		})
	}
	mux.HandleFunc("POST /fault", func(w http.ResponseWriter, r *http.Request) {
		made := new(rule)
		serve(w, r, made, func() (any, error) { return nil, c.site.faults.add(made) })
	})
	c.misfortunes(mux)
	return mux
}

func serve(w http.ResponseWriter, r *http.Request, into any, run func() (any, error)) {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	result, err := run()
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(result)
}

// found looks the VM of an order up; the caller holds the site's lock.
func (c *control) found(o order) (*machine, *disk, error) {
	m, err := c.site.named(o.VM)
	if err != nil {
		return nil, nil, err
	}
	if o.Key == 0 {
		return m, nil, nil
	}
	d := m.disks[o.Key]
	if d == nil {
		return nil, nil, fmt.Errorf("%s has no disk %d", o.VM, o.Key)
	}
	return m, d, nil
}

// resetTracking does what a host does after a crash: the old run's ids are void. Without a key, for all disks.
func (c *control) resetTracking(_ context.Context, o order) (any, error) {
	vm, m, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	c.site.mu.Lock()
	_, only, err := c.found(o)
	for _, d := range m.disks {
		if err == nil && (only == nil || only == d) && d.run != "" {
			d.start()
		}
	}
	c.site.mu.Unlock()
	if err == nil {
		c.shown(vm, m)
	}
	return nil, err
}

func (c *control) trackingUnit(_ context.Context, o order) (any, error) {
	if o.Bytes < 512 || o.Bytes%512 != 0 {
		return nil, fmt.Errorf("a tracking unit of %d bytes is not a multiple of 512", o.Bytes)
	}
	c.site.mu.Lock()
	defer c.site.mu.Unlock()
	c.site.unit = o.Bytes
	return nil, nil
}

func (c *control) answers(_ context.Context, o order) (any, error) {
	switch o.Name {
	case "", "stuck", "elsewhere", "unsorted", "outside", "beyond":
		c.site.mu.Lock()
		defer c.site.mu.Unlock()
		c.site.answers = o.Name
		return nil, nil
	}
	return nil, fmt.Errorf("change queries know no misbehaviour called %s", o.Name)
}

func (c *control) plugDelay(_ context.Context, o order) (any, error) {
	c.site.mu.Lock()
	defer c.site.mu.Unlock()
	c.site.plugDelay = time.Duration(o.Seconds * float64(time.Second))
	return nil, nil
}

func (c *control) calls(context.Context, order) (any, error) {
	c.hooks.mu.Lock()
	defer c.hooks.mu.Unlock()
	counted := map[string]int{}
	for name, count := range c.hooks.calls {
		counted[name] = count
	}
	return counted, nil
}

// vm is the simulator's object behind a name.
func (c *control) vm(o order) (*simulator.VirtualMachine, *machine, error) {
	c.site.mu.Lock()
	defer c.site.mu.Unlock()
	m, _, err := c.found(o)
	if err != nil {
		return nil, nil, err
	}
	vm, ok := c.registry.Get(m.self).(*simulator.VirtualMachine)
	if !ok {
		return nil, nil, fmt.Errorf("%s was deleted", o.VM)
	}
	return vm, m, nil
}

// locked changes a VM as the simulator's own methods do.
func (c *control) locked(vm *simulator.VirtualMachine, changes ...types.PropertyChange) {
	ctx := &simulator.Context{Context: context.Background(), Map: c.registry}
	ctx.WithLock(vm, func() { ctx.Update(vm, changes) })
}

func (c *control) consolidation(_ context.Context, o order) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	c.locked(vm, types.PropertyChange{Name: "runtime.consolidationNeeded", Val: o.On})
	return nil, nil
}

type shownSnapshot struct {
	MoRef       string `json:"moref"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

func (c *control) snapshots(_ context.Context, o order) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	list := []shownSnapshot{}
	var walk func([]types.VirtualMachineSnapshotTree)
	walk = func(trees []types.VirtualMachineSnapshotTree) {
		for _, tree := range trees {
			list = append(list, shownSnapshot{tree.Snapshot.Value, tree.Name, tree.Description})
			walk(tree.ChildSnapshotList)
		}
	}
	ctx := &simulator.Context{Context: context.Background(), Map: c.registry}
	ctx.WithLock(vm, func() {
		if vm.Snapshot != nil {
			walk(vm.Snapshot.RootSnapshotList)
		}
	})
	return list, nil
}

// snapshot takes one, as another user of the vCenter would.
func (c *control) snapshot(ctx context.Context, o order) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	client, err := vim25.NewClient(ctx, c.service)
	if err != nil {
		return nil, err
	}
	task, err := object.NewVirtualMachine(client, vm.Self).CreateSnapshot(ctx, o.Name, "", false, false)
	if err != nil {
		return nil, err
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		return nil, err
	}
	return info.Result.(ref).Value, nil
}

// grow makes a disk larger; vSphere refuses while there are snapshots.
func (c *control) grow(_ context.Context, o order) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	c.site.mu.Lock()
	m, d, err := c.found(o)
	if err == nil {
		err = m.grow(d, o.Bytes)
	}
	c.site.mu.Unlock()
	if err != nil {
		return nil, err
	}
	devices := append([]types.BaseVirtualDevice{}, vm.Config.Hardware.Device...)
	for i, device := range devices {
		if virtual, ok := device.(*types.VirtualDisk); ok && virtual.Key == o.Key {
			larger := *virtual
			larger.CapacityInBytes, larger.CapacityInKB = o.Bytes, o.Bytes/1024
			devices[i] = &larger
		}
	}
	c.locked(vm, types.PropertyChange{Name: "config.hardware.device", Val: devices})
	return nil, nil
}

func (m *machine) grow(d *disk, bytes int64) error {
	switch {
	case d == nil:
		return fmt.Errorf("%s: which disk?", m.spec.Name)
	case len(d.layers) > 1:
		return fmt.Errorf("%s has snapshots: its disks cannot grow", m.spec.Name)
	case bytes <= d.capacity || bytes%512 != 0:
		return fmt.Errorf("%d is not a larger multiple of 512 than %d", bytes, d.capacity)
	}
	return m.stunned(func() error {
		if err := os.Truncate(filepath.Join(d.dir, d.top()), bytes); err != nil {
			return err
		}
		d.capacity = bytes
		return nil
	})
}

// expire ends all sessions, as a vCenter does with idle ones.
func (c *control) expire(ctx context.Context, _ order) (any, error) {
	client, err := vim25.NewClient(ctx, c.service)
	if err != nil {
		return nil, err
	}
	var shown mo.SessionManager
	collector := property.DefaultCollector(client)
	if err := collector.RetrieveOne(ctx, *client.ServiceContent.SessionManager, []string{"sessionList"}, &shown); err != nil {
		return nil, err
	}
	keys := []string{}
	for _, one := range shown.SessionList {
		keys = append(keys, one.Key)
	}
	if err := session.NewManager(client).TerminateSession(ctx, keys); err != nil {
		return nil, err
	}
	return len(keys) + c.front.rest.expire(), nil
}
