package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// rule makes calls of one method go wrong.
type rule struct {
	Method string `json:"method"` // SOAP name, "*" for all
	// Fault is a vSphere fault's type name, "drop" (hang up instead of carrying out), "drop-after" (carry out, then
	// hang up instead of answering), "http-NNN" (a web server's error page), or empty for a delay alone.
	Fault string  `json:"fault"`
	Call  bool    `json:"call"`  // for a task: the call itself fails, not the task
	Count int     `json:"count"` // how often; 0 for ever
	Skip  int     `json:"skip"`  // how many calls pass first
	Delay float64 `json:"delay"` // seconds before the answer

	made types.BaseMethodFault
	hits int
}

// onWire tells rules that the transport carries out.
func (r *rule) onWire() bool {
	return r.Fault == "drop" || r.Fault == "drop-after" || strings.HasPrefix(r.Fault, "http-")
}

func (r *rule) inTask() bool { return strings.HasSuffix(r.Method, "_Task") && !r.Call && r.made != nil }

// faults is the list of rules; the first that matches wins.
type faults struct {
	mu    sync.Mutex
	rules []*rule
}

func (f *faults) add(r *rule) error {
	if r.Method == "" {
		return fmt.Errorf("a fault needs a method")
	}
	if r.Fault != "" && !r.onWire() {
		made, err := newFault(r.Fault)
		if err != nil {
			return err
		}
		r.made = made
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, r)
	return nil
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// pick counts a call against the first rule that wants it.
func (f *faults) pick(method string, wants func(*rule) bool) *rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if (r.Method != "*" && r.Method != method) || !wants(r) {
			continue
		}
		r.hits++
		if r.hits <= r.Skip || (r.Count > 0 && r.hits > r.Skip+r.Count) {
			continue
		}
		return r
	}
	return nil
}

// call is asked before a method runs.
func (f *faults) call(method *simulator.Method) types.BaseMethodFault {
	r := f.pick(method.Name, func(r *rule) bool { return !r.onWire() && !r.inTask() })
	if r == nil {
		return nil
	}
	time.Sleep(time.Duration(r.Delay * float64(time.Second)))
	return r.made
}

// task is asked before a task starts.
func (f *faults) task(method string) types.BaseMethodFault {
	r := f.pick(method, (*rule).inTask)
	if r == nil {
		return nil
	}
	time.Sleep(time.Duration(r.Delay * float64(time.Second)))
	return r.made
}

// wound is what is done to a request: a status to answer with, or whether to hang up, and when.
type wound struct {
	status        int
	before, after bool
}

// wire is asked before a request is read by the simulator.
func (f *faults) wire(method string) wound { return f.wound(f.pick(method, (*rule).onWire)) }

// rest is the same for a request of the REST API, whose delays are carried out here as well.
func (f *faults) rest(method string) wound {
	return f.wound(f.pick(method, func(r *rule) bool { return r.onWire() || r.Fault == "" }))
}

func (*faults) wound(r *rule) wound {
	if r == nil {
		return wound{}
	}
	time.Sleep(time.Duration(r.Delay * float64(time.Second)))
	status, _ := strconv.Atoi(strings.TrimPrefix(r.Fault, "http-"))
	return wound{status, r.Fault == "drop", r.Fault == "drop-after"}
}

// onWire tells whether any rule is for the transport, so that requests need not be parsed twice otherwise.
func (f *faults) onWire() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.onWire() {
			return true
		}
	}
	return false
}

// newFault makes a fault by its type's name, with the fields without which pyVmomi cannot read it.
func newFault(name string) (types.BaseMethodFault, error) {
	kind, ok := types.TypeFunc()(name)
	if !ok {
		return nil, fmt.Errorf("vSphere knows no fault called %s", name)
	}
	made, ok := reflect.New(kind).Interface().(types.BaseMethodFault)
	if !ok {
		return nil, fmt.Errorf("%s is not a fault", name)
	}
	switch fault := made.(type) {
	case types.BaseFileFault:
		fault.GetFileFault().File = "[LocalDS_0] lab/injected.vmdk"
	case *types.NoPermission:
		fault.PrivilegeId = "VirtualMachine.State.CreateSnapshot"
		fault.Object = &ref{Type: "VirtualMachine", Value: "vm-0"}
	case *types.NotAuthenticated:
		fault.PrivilegeId = "System.View"
		fault.Object = &ref{Type: "VirtualMachine", Value: "vm-0"}
	case *types.SystemError:
		fault.Reason = "injected by the lab"
	case *types.InvalidArgument:
		fault.InvalidProperty = "injected"
	case *types.ManagedObjectNotFound:
		fault.Obj = ref{Type: "VirtualMachine", Value: "vm-0"}
	case *types.TaskInProgress:
		fault.Task = ref{Type: "Task", Value: "task-0"}
	case *types.InvalidPowerState:
		fault.ExistingState = types.VirtualMachinePowerStatePoweredOn
	}
	return made, nil
}
