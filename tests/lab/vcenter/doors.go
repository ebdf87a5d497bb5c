package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// doors are the ports at which hosts hand out the data of disks. They take connections and hang up: what is read comes
// from elsewhere in the lab.
type doors struct {
	port int

	mu   sync.Mutex
	open map[string]net.Listener
}

// set opens a host's door or shuts it.
func (d *doors) set(host string, on bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	listener, is := d.open[host]
	if is == on {
		return nil
	}
	if !on {
		delete(d.open, host)
		return listener.Close()
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(d.port)))
	if err != nil {
		return err
	}
	d.open[host] = listener
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_ = connection.Close()
		}
	}()
	return nil
}

// hostDoor opens or shuts the door of one host.
func (c *control) hostDoor(_ context.Context, o order) (any, error) {
	if _, err := c.hostOf(o.Host); err != nil {
		return nil, err
	}
	if err := c.doors.set(o.Host, o.On); err != nil {
		return nil, fmt.Errorf("the door of %s: %w", o.Host, err)
	}
	return nil, nil
}
