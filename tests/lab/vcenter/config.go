package main

import (
	"encoding/json"
	"os"
)

// config says what the vCenter serves and what stands in its inventory. The lab writes it; all paths are absolute.
type config struct {
	Listen         string        `json:"listen"`
	DataPort       int           `json:"dataPort"` // of every host
	User           string        `json:"user"`
	Password       string        `json:"password"`
	Certificate    string        `json:"certificate"`
	Key            string        `json:"key"`
	Disks          string        `json:"disks"`          // guest disks: <disks>/<vm>/<device key>/
	Devices        string        `json:"devices"`        // where hot-added disks appear
	Scratch        string        `json:"scratch"`        // the simulator's own datastore
	Snapshots      string        `json:"snapshots"`      // what snapshots hold, for readers over the network
	KeyProvider    string        `json:"keyProvider"`    // name of the site's key provider
	KeyServer      string        `json:"keyServer"`      // host:port of its server
	KeyMaker       string        `json:"keyMaker"`       // URL at which the lab makes keys at that server; empty: keys are made up
	NativeProvider string        `json:"nativeProvider"` // name of a native key provider; empty: there is none
	Networks       int           `json:"networks"`       // distributed port groups beside the standard network
	Machines       []machineSpec `json:"machines"`
}

// machineSpec is one VM to be.
type machineSpec struct {
	Name         string     `json:"name"`
	InstanceUUID string     `json:"instanceUuid"`
	KeyID        string     `json:"keyId"` // empty: not encrypted
	Hardware     string     `json:"hardware"`
	Tracking     bool       `json:"tracking"` // whether change tracking is supported
	Agent        bool       `json:"agent"`    // hot-added disks appear in the device folder
	Controllers  int        `json:"controllers"`
	Snapshot     string     `json:"snapshot"` // a snapshot of this name exists from the start
	Disks        []diskSpec `json:"disks"`
}

// diskSpec is one virtual disk; its file exists before the vCenter starts.
type diskSpec struct {
	Key   int32  `json:"key"`
	Bytes int64  `json:"bytes"`
	Kind  string `json:"kind"` // flat, independent or physical-rdm
}

func readConfig(path string) (*config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	read := new(config)
	return read, json.Unmarshal(data, read)
}
