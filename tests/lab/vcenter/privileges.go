package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The simulator grants everything to everybody. Here privileges can be taken from a user: the checks then answer
// truly, and each method that needs one fails with a NoPermission that names it.

// denial takes one privilege from one user.
type denial struct {
	User      string `json:"user"` // empty: from every user
	Privilege string `json:"privilege"`
	Hidden    bool   `json:"hidden"` // checks say that it is there, as when it is taken after they were asked
}

type denials struct {
	mu   sync.Mutex
	list []denial
}

func (d *denials) add(made *denial) error {
	if made.Privilege == "" {
		return fmt.Errorf("which privilege?")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, *made)
	return nil
}

func (d *denials) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = nil
}

// lacks tells whether a user has to do without a privilege; asked by a check, the hidden ones do not show.
func (d *denials) lacks(user, privilege string, check bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.list, func(one denial) bool {
		return one.Privilege == privilege && (one.User == "" || one.User == user) && !(check && one.Hidden)
	})
}

// need is a privilege on an object.
type need struct {
	privilege string
	on        ref
}

// needed lists methods that need one privilege on the object they are called on.
var needed = map[string]string{
	"AddAuthorizationRole":         "Authorization.ModifyRoles",
	"ConsolidateVMDisks_Task":      "VirtualMachine.State.RemoveSnapshot",
	"CreateSnapshotEx_Task":        "VirtualMachine.State.CreateSnapshot",
	"CreateSnapshot_Task":          "VirtualMachine.State.CreateSnapshot",
	"Destroy_Task":                 "VirtualMachine.Inventory.Delete",
	"GenerateKey":                  "Cryptographer.ManageKeys",
	"ListKmipServers":              "Cryptographer.ReadKeyServersInfo",
	"PowerOffVM_Task":              "VirtualMachine.Interact.PowerOff",
	"PowerOnVM_Task":               "VirtualMachine.Interact.PowerOn",
	"QueryChangedDiskAreas":        "VirtualMachine.Provisioning.DiskRandomRead",
	"RemoveAllSnapshots_Task":      "VirtualMachine.State.RemoveSnapshot",
	"RemoveSnapshot_Task":          "VirtualMachine.State.RemoveSnapshot",
	"RevertToCurrentSnapshot_Task": "VirtualMachine.State.RevertToSnapshot",
	"RevertToSnapshot_Task":        "VirtualMachine.State.RevertToSnapshot",
	"SessionIsActive":              "Sessions.ValidateSession",
	"UpdateAuthorizationRole":      "Authorization.ModifyRoles",
}

// needs is everything that a call needs.
func (s *site) needs(ctx *simulator.Context, method *simulator.Method) []need {
	on := method.This
	if snapshot, ok := ctx.Map.Get(on).(*simulator.VirtualMachineSnapshot); ok {
		on = snapshot.Vm
	}
	if privilege, ok := needed[method.Name]; ok {
		return []need{{privilege, on}}
	}
	switch request := method.Body.(type) {
	case *types.ReconfigVM_Task:
		return s.needsOfChange(ctx, on, &request.Spec)
	case *types.CreateVM_Task:
		return needsOfCreating(ctx, on, request)
	case *types.RetrievePropertiesEx:
		return needsOfReading(request)
	}
	return nil
}

// needsOfReading: even to be seen takes a privilege, which objects asked for one by one are refused without.
func needsOfReading(request *types.RetrievePropertiesEx) []need {
	var list []need
	for _, set := range request.SpecSet {
		for _, one := range set.ObjectSet {
			switch one.Obj.Type {
			case "Datastore", "Folder", "VirtualMachine":
				list = append(list, need{"System.View", one.Obj})
			}
		}
	}
	return list
}

func needsOfCreating(ctx *simulator.Context, on ref, request *types.CreateVM_Task) []need {
	list := []need{
		{"VirtualMachine.Inventory.Create", on}, {"Resource.AssignVMToPool", request.Pool},
		{"Datastore.AllocateSpace", ctx.Map.Any("Datastore").Reference()},
	}
	if request.Config.Crypto != nil {
		list = append(list, need{"Cryptographer.EncryptNew", on})
	}
	return list
}

func (s *site) needsOfChange(ctx *simulator.Context, on ref, spec *types.VirtualMachineConfigSpec) []need {
	var list []need
	if spec.ChangeTrackingEnabled != nil {
		list = append(list, need{"VirtualMachine.Config.ChangeTracking", on})
	}
	if len(spec.ExtraConfig) > 0 {
		list = append(list, need{"VirtualMachine.Config.AdvancedConfig", on})
	}
	for _, change := range spec.DeviceChange {
		one := change.GetVirtualDeviceConfigSpec()
		virtual, isDisk := one.Device.(*types.VirtualDisk)
		switch {
		case !isDisk:
			list = append(list, need{"VirtualMachine.Config.AddRemoveDevice", on})
		case one.Operation == types.VirtualDeviceConfigSpecOperationRemove:
			list = append(list, need{"VirtualMachine.Config.RemoveDisk", on})
		case one.Operation == types.VirtualDeviceConfigSpecOperationAdd && one.FileOperation != "":
			list = append(list, need{"VirtualMachine.Config.AddNewDisk", on})
		case one.Operation == types.VirtualDeviceConfigSpecOperationAdd:
			list = append(list, need{"VirtualMachine.Config.AddExistingDisk", on})
			list = append(list, s.needsOfAttaching(ctx, on, virtual)...)
		}
	}
	return list
}

// needsOfAttaching: its redo log takes room on the disk's datastore, and what is encrypted is decrypted.
func (s *site) needsOfAttaching(ctx *simulator.Context, on ref, virtual *types.VirtualDisk) []need {
	backing, ok := virtual.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok {
		return nil
	}
	store := ctx.Map.Any("Datastore").Reference()
	list := []need{{"Datastore.Browse", store}, {"Datastore.AllocateSpace", store}}
	s.mu.Lock()
	owner, _, _ := s.owner(backing.FileName)
	s.mu.Unlock()
	if owner != nil && owner.spec.KeyID != "" {
		list = append(list, need{"Cryptographer.AddDisk", on}, need{"Cryptographer.Access", owner.self})
	}
	return list
}

// forbidden is the fault of a call for which its session's user lacks a privilege.
func (s *site) forbidden(ctx *simulator.Context, method *simulator.Method) types.BaseMethodFault {
	if ctx.Session == nil {
		return nil
	}
	for _, one := range s.needs(ctx, method) {
		if s.denials.lacks(ctx.Session.UserName, one.privilege, false) {
			return &types.NoPermission{
				Object: &one.on, PrivilegeId: one.privilege,
				MissingPrivileges: []types.NoPermissionEntityPrivileges{
					{Entity: one.on, PrivilegeIds: []string{one.privilege}},
				},
			}
		}
	}
	return nil
}

// listPrivileges fills the list of what this vCenter knows, which the simulator leaves empty.
func listPrivileges(model *simulator.Model) error {
	manager, ok := model.Map().Get(*model.ServiceContent.AuthorizationManager).(*simulator.AuthorizationManager)
	if !ok {
		return fmt.Errorf("the simulator has no authorization manager")
	}
	for _, id := range object.AuthorizationRoleList(manager.RoleList).ByName("Admin").Privilege {
		group, name := id[:strings.LastIndex(id, ".")], id[strings.LastIndex(id, ".")+1:]
		manager.PrivilegeList = append(manager.PrivilegeList, types.AuthorizationPrivilege{
			PrivId: id, Name: name, PrivGroupName: group, OnParent: false,
		})
	}
	return nil
}

// authorization answers truly what a session's user may do.
type authorization struct {
	*simulator.AuthorizationManager
	site *site
}

func (a *authorization) HasPrivilegeOnEntities(ctx *simulator.Context, req *types.HasPrivilegeOnEntities) soap.HasFault {
	answer := a.AuthorizationManager.HasPrivilegeOnEntities(req).(*methods.HasPrivilegeOnEntitiesBody)
	if ctx.Session == nil || req.SessionId != ctx.Session.Key {
		return &methods.HasPrivilegeOnEntitiesBody{Fault_: simulator.Fault("", &types.InvalidArgument{InvalidProperty: "sessionId"})}
	}
	known := map[string]bool{}
	for _, privilege := range a.PrivilegeList {
		known[privilege.PrivId] = true
	}
	for i := range answer.Res.Returnval {
		for j := range answer.Res.Returnval[i].PrivAvailability {
			one := &answer.Res.Returnval[i].PrivAvailability[j]
			one.IsGranted = known[one.PrivId] && !a.site.denials.lacks(ctx.Session.UserName, one.PrivId, true)
		}
	}
	return answer
}
