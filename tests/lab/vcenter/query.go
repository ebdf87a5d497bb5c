package main

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// QueryChangedDiskAreas says what changed on a disk between a change id and a snapshot.
func (vm *virtualMachine) QueryChangedDiskAreas(_ *simulator.Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	info, fault := vm.site.query(vm.machine, req)
	if fault != nil {
		return &methods.QueryChangedDiskAreasBody{Fault_: simulator.Fault("", fault)}
	}
	return &methods.QueryChangedDiskAreasBody{Res: &types.QueryChangedDiskAreasResponse{Returnval: *info}}
}

func (s *site) query(m *machine, req *types.QueryChangedDiskAreas) (*types.DiskChangeInfo, types.BaseMethodFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	invalid := func(property string) types.BaseMethodFault {
		return &types.InvalidArgument{InvalidProperty: property}
	}
	if req.Snapshot == nil {
		return nil, invalid("snapshot") // may be left out for a powered-off VM only
	}
	if m.frozen[*req.Snapshot] == nil {
		return nil, &types.ManagedObjectNotFound{Obj: *req.Snapshot}
	}
	d := m.disks[req.DeviceKey]
	if d == nil {
		return nil, &types.NotFound{}
	}
	to, tracked := d.snapped[*req.Snapshot]
	switch {
	case !tracked:
		return nil, invalid("deviceKey")
	case req.StartOffset < 0 || req.StartOffset >= d.capacity:
		return nil, invalid("startOffset")
	}
	areas := []extent{{0, d.capacity}}
	if req.ChangeId != "*" {
		from, known, err := d.moment(req.ChangeId)
		switch {
		case err != nil:
			return nil, invalid("changeId")
		case !known || to.run != d.run || from > to.length:
			// Older than the tracking file, or from another one.
			tracks := strings.TrimSuffix(string(d.file), ".vmdk") + "-ctk.vmdk"
			return nil, &types.FileFault{File: tracks}
		}
		if areas, err = changed(d.dir, from, to.length, d.capacity, s.unit); err != nil {
			return nil, &types.SystemError{Reason: err.Error()}
		}
	}
	cut, length := page(areas, req.StartOffset, d.capacity)
	info := &types.DiskChangeInfo{StartOffset: req.StartOffset, Length: length}
	for _, area := range cut {
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: area.offset, Length: area.length})
	}
	s.misbehave(info, d.capacity)
	return info, nil
}

// misbehave spoils an answer in one of the ways that a careful reader must notice.
func (s *site) misbehave(info *types.DiskChangeInfo, capacity int64) {
	switch s.answers {
	case "stuck": // a page that does not advance
		info.Length, info.ChangedArea = 0, nil
	case "elsewhere": // a page other than the one asked for
		info.StartOffset += 512
	case "unsorted":
		for i, j := 0, len(info.ChangedArea)-1; i < j; i, j = i+1, j-1 {
			info.ChangedArea[i], info.ChangedArea[j] = info.ChangedArea[j], info.ChangedArea[i]
		}
	case "outside": // an area past the page's end
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: capacity, Length: 512})
	case "beyond": // a page that reaches past the disk
		info.Length += 512
	}
}
