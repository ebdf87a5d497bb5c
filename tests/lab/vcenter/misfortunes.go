package main

import (
	"context"
	"net/http"
	"slices"

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
	for name, command := range map[string]func(context.Context, order) (any, error){
		"disable-method": c.disableMethod,
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
