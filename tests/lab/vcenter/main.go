// Command vcenter is the lab's vCenter: govmomi's simulator with changed-block tracking, snapshots that freeze files,
// hot-add that shows them, and a door through which tests make it misbehave.
//
// It prints one JSON line when it serves, and ends with its standard input.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"

	"github.com/vmware/govmomi/simulator"

	_ "github.com/vmware/govmomi/pbm/simulator" // storage policies at /pbm
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: vcenter CONFIG.json")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(path string) error {
	c, err := readConfig(path)
	if err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return err
	}
	if err := os.Setenv("TMPDIR", c.Scratch); err != nil {
		return err
	}
	model := simulator.VPX()
	model.Host, model.ClusterHost, model.Portgroup, model.Machine = 0, hostCount, c.Networks, 0
	model.ServiceContent.About.ApiVersion = "8.0.3.0" // pyVmomi believes 6.5 otherwise
	model.ServiceContent.About.Version = "8.0.3"
	if err := model.Create(); err != nil {
		return err
	}
	defer model.Remove()

	nameHosts(model.Map())
	s := newSite(c)
	h := newHooks(s)
	model.Map().Handler = h.handle
	model.Map().AddHandler(h)
	if err := build(context.Background(), s, model); err != nil {
		return err
	}
	if err := listPrivileges(model); err != nil {
		return err
	}
	f := open(c, model, s, certificate)
	f.count = h.count
	if err := f.start(); err != nil {
		return err
	}
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	opened := &doors{port: c.DataPort, open: map[string]net.Listener{}}
	for number := range hostCount {
		if err := opened.set(hostName(number), true); err != nil {
			return err
		}
	}
	ctl := &control{s, h, f, model.Service, model.Map(), opened}
	go func() {
		if err := http.Serve(door, ctl.routes()); !errors.Is(err, net.ErrClosed) {
			log.Printf("control door: %s", err)
		}
	}()
	if err := announce(s, "http://"+door.Addr().String()); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// open prepares the simulator to answer on our own listener, where it can be made to go away.
func open(c *config, model *simulator.Model, s *site, certificate tls.Certificate) *front {
	service := model.Service
	service.RegisterEndpoints = true
	service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(c.User, c.Password)}
	service.NewServer().Close() // builds the routes; its plaintext listener is not wanted
	service.Listen.Host = c.Listen
	manager := model.Map().SessionManager()
	manager.ServiceHostName = c.Listen
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	manager.TLS = func() *tls.Config { return settings }
	inner := service.ServeMux
	return &front{
		address: c.Listen, tls: settings, inner: inner, faults: s.faults,
		rest: &rest{inner: inner, off: map[string]bool{}, sessions: map[string]bool{}},
	}
}

type announcedDisk struct {
	Key   int32 `json:"key"`
	Bytes int64 `json:"bytes"`
}

type announcedMachine struct {
	Name      string          `json:"name"`
	MoRef     string          `json:"moref"`
	Encrypted bool            `json:"encrypted"`
	Disks     []announcedDisk `json:"disks"`
}

func announce(s *site, door string) error {
	var machines []announcedMachine
	for _, spec := range s.config.Machines {
		m, err := s.named(spec.Name)
		if err != nil {
			return err
		}
		shown := announcedMachine{spec.Name, m.self.Value, spec.KeyID != "", []announcedDisk{}}
		for _, disk := range spec.Disks {
			shown.Disks = append(shown.Disks, announcedDisk{disk.Key, disk.Bytes})
		}
		machines = append(machines, shown)
	}
	line, err := json.Marshal(map[string]any{"ready": true, "control": door, "machines": machines})
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(line))
	return err
}

var _ simulator.RegisterObject = (*hooks)(nil)
