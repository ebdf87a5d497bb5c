package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// The hosts that VMs run on: several of one cluster, with a datastore in common.

const hostCount = 3

// hostName is an address of its own on loopback for each host, so that each can have ports of its own.
func hostName(number int) string {
	return fmt.Sprintf("127.0.0.%d", 11+number)
}

// hosts are the cluster's, always in the same order.
func hosts(registry *simulator.Registry) []*simulator.HostSystem {
	found := []*simulator.HostSystem{}
	for _, entity := range registry.All("HostSystem") {
		if host, ok := entity.(*simulator.HostSystem); ok {
			found = append(found, host)
		}
	}
	slices.SortFunc(found, func(one, other *simulator.HostSystem) int {
		return strings.Compare(one.Self.Value, other.Self.Value)
	})
	return found
}

// nameHosts gives the hosts names that can be dialled.
func nameHosts(registry *simulator.Registry) {
	ctx := &simulator.Context{Context: context.Background(), Map: registry}
	for number, host := range hosts(registry) {
		ctx.WithLock(host, func() {
			ctx.Update(host, []types.PropertyChange{{Name: "name", Val: hostName(number)}})
			host.Summary.Config.Name = hostName(number)
			host.Runtime.CryptoState = string(types.HostCryptoStateSafe)
		})
	}
}

// hostOf finds a host by name.
func (c *control) hostOf(name string) (*simulator.HostSystem, error) {
	for _, host := range hosts(c.registry) {
		if host.Name == name {
			return host, nil
		}
	}
	return nil, fmt.Errorf("no host is called %s", name)
}

// host gives a host, or every one, another version and build: it is upgraded, and started anew with that.
func (c *control) host(_ context.Context, o order) (any, error) {
	ctx := &simulator.Context{Context: context.Background(), Map: c.registry}
	meant := hosts(c.registry)
	if o.Host != "" {
		one, err := c.hostOf(o.Host)
		if err != nil {
			return nil, err
		}
		meant = []*simulator.HostSystem{one}
	}
	now := time.Now()
	for _, host := range meant {
		ctx.WithLock(host, func() {
			product := host.Config.Product
			product.Version, product.Build = o.Name, fmt.Sprint(o.Bytes)
			ctx.Update(host, []types.PropertyChange{
				{Name: "config.product", Val: product}, {Name: "runtime.bootTime", Val: &now},
			})
		})
	}
	return nil, nil
}

// hostCrypto says how fit a host is for encrypted VMs: safe, prepared or incapable; without a host, all of them.
func (c *control) hostCrypto(o order) (any, error) {
	for _, host := range hosts(c.registry) {
		if o.Host == "" || o.Host == host.Name {
			ctx := &simulator.Context{Context: context.Background(), Map: c.registry}
			ctx.WithLock(host, func() {
				ctx.Update(host, []types.PropertyChange{{Name: "runtime.cryptoState", Val: o.Name}})
			})
		}
	}
	return nil, nil
}

// space sets how much is free on the datastore.
func (c *control) space(o order) (any, error) {
	store := c.registry.Any("Datastore").(*simulator.Datastore)
	ctx := &simulator.Context{Context: context.Background(), Map: c.registry}
	ctx.WithLock(store, func() {
		store.Info.GetDatastoreInfo().FreeSpace = o.Bytes
		ctx.Update(store, []types.PropertyChange{{Name: "summary.freeSpace", Val: o.Bytes}})
	})
	return nil, nil
}

// migrate moves a running VM to another host, as DRS does, and says so in the history of events.
func (c *control) migrate(ctx context.Context, o order) (any, error) {
	vm, _, err := c.vm(o)
	if err != nil {
		return nil, err
	}
	to, err := c.hostOf(o.Host)
	if err != nil {
		return nil, err
	}
	from := c.registry.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	changed := &simulator.Context{Context: context.Background(), Map: c.registry}
	c.registry.RemoveReference(changed, from, &from.Vm, vm.Self)
	c.registry.AddReference(changed, to, &to.Vm, vm.Self)
	c.locked(vm,
		types.PropertyChange{Name: "runtime.host", Val: &to.Self},
		types.PropertyChange{Name: "summary.runtime.host", Val: &to.Self},
	)
	client, err := vim25.NewClient(ctx, c.service)
	if err != nil {
		return nil, err
	}
	argument := func(host *simulator.HostSystem) types.HostEventArgument {
		return types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: host.Name}, Host: host.Self}
	}
	arrived := argument(to)
	moved := &types.DrsVmMigratedEvent{VmMigratedEvent: types.VmMigratedEvent{
		VmEvent: types.VmEvent{Event: types.Event{
			Host: &arrived,
			Vm:   &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: vm.Name}, Vm: vm.Self},
		}},
		SourceHost: argument(from),
	}}
	_, err = methods.PostEvent(ctx, client, &types.PostEvent{
		This: *client.ServiceContent.EventManager, EventToPost: moved,
	})
	return nil, err
}
