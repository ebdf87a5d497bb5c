package main

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// builder makes the inventory through the simulator's own API.
type builder struct {
	context.Context
	site     *site
	registry *simulator.Registry
	client   *vim25.Client
	folder   *object.Folder
	pool     *object.ResourcePool
	store    string
	host     *object.HostSystem // where all VMs are at first
}

func build(ctx context.Context, s *site, model *simulator.Model) error {
	client, err := vim25.NewClient(ctx, model.Service)
	if err != nil {
		return err
	}
	finder := find.NewFinder(client)
	center, err := finder.DefaultDatacenter(ctx)
	if err != nil {
		return err
	}
	finder.SetDatacenter(center)
	folders, err := center.Folders(ctx)
	if err != nil {
		return err
	}
	pool, err := finder.DefaultResourcePool(ctx)
	if err != nil {
		return err
	}
	store, ok := model.Map().Any("Datastore").(*simulator.Datastore)
	if !ok {
		return fmt.Errorf("the simulator has no datastore")
	}
	s.datastore = store.Info.GetDatastoreInfo().Url
	b := &builder{ctx, s, model.Map(), client, folders.VmFolder, pool, store.Name, object.NewHostSystem(client, hosts(model.Map())[0].Self)}
	if err := b.keyProvider(); err != nil {
		return err
	}
	for _, spec := range s.config.Machines {
		if err := b.machine(spec); err != nil {
			return fmt.Errorf("%s: %w", spec.Name, err)
		}
	}
	return nil
}

// keyProvider registers the site's KMS, as an administrator would.
func (b *builder) keyProvider() error {
	host, port, err := net.SplitHostPort(b.site.config.KeyServer)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	_, err = methods.RegisterKmipServer(b, b.client, &types.RegisterKmipServer{
		This: *b.client.ServiceContent.CryptoManager,
		Server: types.KmipServerSpec{
			ClusterId: types.KeyProviderId{Id: b.site.config.KeyProvider},
			Info:      types.KmipServerInfo{Name: "kms", Address: host, Port: int32(number)},
		},
	})
	if err != nil || b.site.config.NativeProvider == "" {
		return err
	}
	_, err = methods.RegisterKmsCluster(b, b.client, &types.RegisterKmsCluster{
		This:           *b.client.ServiceContent.CryptoManager,
		ClusterId:      types.KeyProviderId{Id: b.site.config.NativeProvider},
		ManagementType: string(types.KmipClusterInfoKmsManagementTypeNativeProvider),
	})
	return err
}

func (b *builder) machine(spec machineSpec) error {
	task, err := b.folder.CreateVM(b, b.configSpec(spec), b.pool, b.host)
	if err != nil {
		return err
	}
	info, err := task.WaitForResult(b)
	if err != nil {
		return err
	}
	self := info.Result.(ref)
	vm := b.registry.Get(self).(*simulator.VirtualMachine)
	vm.Capability.ChangeTrackingSupported = spec.Tracking
	vm.Config.ChangeTrackingEnabled = types.NewBool(false)
	if spec.KeyID != "" {
		vm.Config.KeyId = b.keyID(spec)
	}
	power, err := object.NewVirtualMachine(b.client, self).PowerOn(b)
	if err != nil {
		return err
	}
	if err := power.Wait(b); err != nil {
		return err
	}
	vm.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	if err := b.site.adopt(vm, spec); err != nil {
		return err
	}
	if spec.Agent {
		b.site.plug(self, vm.Config.Hardware.Device)
	}
	if spec.Snapshot == "" {
		return nil
	}
	snap, err := object.NewVirtualMachine(b.client, self).CreateSnapshot(b, spec.Snapshot, "", false, false)
	if err != nil {
		return err
	}
	return snap.Wait(b)
}

func (b *builder) keyID(spec machineSpec) *types.CryptoKeyId {
	return &types.CryptoKeyId{
		KeyId: spec.KeyID, ProviderId: &types.KeyProviderId{Id: b.site.config.KeyProvider},
	}
}

func (b *builder) configSpec(spec machineSpec) types.VirtualMachineConfigSpec {
	made := types.VirtualMachineConfigSpec{
		Name: spec.Name, InstanceUuid: spec.InstanceUUID, Version: spec.Hardware, GuestId: "debian12_64Guest",
		NumCPUs: 2, NumCoresPerSocket: types.NewInt32(1), MemoryMB: 2048, Firmware: "efi",
		BootOptions: &types.VirtualMachineBootOptions{
			EfiSecureBootEnabled: types.NewBool(true),
			BootOrder: []types.BaseVirtualMachineBootOptionsBootableDevice{
				&types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: 2000},
				&types.VirtualMachineBootOptionsBootableEthernetDevice{DeviceKey: 4000},
			},
		},
		Files: &types.VirtualMachineFileInfo{VmPathName: "[" + b.store + "]"},
	}
	add := func(device types.BaseVirtualDevice, file types.VirtualDeviceConfigSpecFileOperation) *types.VirtualDeviceConfigSpec {
		change := &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, FileOperation: file, Device: device,
		}
		made.DeviceChange = append(made.DeviceChange, change)
		return change
	}
	for bus := range int32(spec.Controllers) {
		add(&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
			VirtualController: types.VirtualController{
				VirtualDevice: types.VirtualDevice{
					Key: 1000 + bus, ControllerKey: 100, UnitNumber: types.NewInt32(3 + bus),
				},
				BusNumber: bus,
			},
			SharedBus: types.VirtualSCSISharingNoSharing, ScsiCtlrUnitNumber: 7,
		}}, "")
	}
	add(&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{
		VirtualDevice: types.VirtualDevice{
			Key: 4000, ControllerKey: 100, UnitNumber: types.NewInt32(7),
			Backing: &types.VirtualEthernetCardNetworkBackingInfo{
				VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "VM Network"},
			},
			Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: true},
		},
		AddressType: string(types.VirtualEthernetCardMacTypeManual), MacAddress: "00:50:56:0A:0B:0C",
	}}}, "")
	for unit, disk := range spec.Disks {
		change := add(&types.VirtualDisk{
			VirtualDevice: types.VirtualDevice{
				Key: disk.Key, ControllerKey: 1000, UnitNumber: types.NewInt32(int32(unit)),
				Backing: b.backing(spec, disk, unit), DeviceInfo: &types.Description{Label: fmt.Sprintf("Hard disk %d", unit+1)},
			},
			CapacityInBytes: disk.Bytes, CapacityInKB: disk.Bytes / 1024,
		}, types.VirtualDeviceConfigSpecFileOperationCreate)
		if spec.KeyID != "" {
			change.Backing = &types.VirtualDeviceConfigSpecBackingSpec{
				Crypto: &types.CryptoSpecEncrypt{CryptoKeyId: *b.keyID(spec)},
			}
		}
	}
	return made
}

func (b *builder) backing(spec machineSpec, disk diskSpec, unit int) types.BaseVirtualDeviceBackingInfo {
	suffix := ""
	if unit > 0 {
		suffix = "_" + strconv.Itoa(unit)
	}
	file := types.VirtualDeviceFileBackingInfo{
		FileName: fmt.Sprintf("[%s] %s/%s%s.vmdk", b.store, spec.Name, spec.Name, suffix),
	}
	switch disk.Kind {
	case "physical-rdm":
		return &types.VirtualDiskRawDiskMappingVer1BackingInfo{
			VirtualDeviceFileBackingInfo: file, CompatibilityMode: string(types.VirtualDiskCompatibilityModePhysicalMode),
			DiskMode: string(types.VirtualDiskModeIndependent_persistent), DeviceName: "vml.0200000000600508b1001c",
			LunUuid: "0200000000600508b1001c", Uuid: "6000C29c-1d5c-46e4-bb5e-ab6a1d5ebf5a",
		}
	case "independent":
		return &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: file, DiskMode: string(types.VirtualDiskModeIndependent_persistent),
			ThinProvisioned: types.NewBool(true),
		}
	default:
		return &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: file, DiskMode: string(types.VirtualDiskModePersistent),
			ThinProvisioned: types.NewBool(true),
		}
	}
}
