package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// What a host would look up for a reader that comes over the network: <snapshots>/<moref of a snapshot> says which VM it
// is of, and for each disk its datastore path, capacity, folder and layers from the bottom, separated by tabs.

func (s *site) published(snapshot ref) string {
	return filepath.Join(s.config.Snapshots, snapshot.Value)
}

// publish brings the file of a snapshot in line with the layers; called under the site's lock.
func (s *site) publish(m *machine, snapshot ref, tops map[int32]string) error {
	var text strings.Builder
	fmt.Fprintf(&text, "vm\t%s\n", m.self.Value)
	for key, d := range m.disks {
		var below []string
		for _, layer := range d.layers {
			below = append(below, layer)
			if layer == tops[key] {
				break
			}
		}
		fmt.Fprintf(&text, "%s\t%d\t%s\t%s\n", d.layerFile(tops[key]), d.capacity, d.dir, strings.Join(below, " "))
	}
	fresh := s.published(snapshot) + ".new"
	if err := os.WriteFile(fresh, []byte(text.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, s.published(snapshot))
}

func (s *site) unpublish(snapshot ref) error {
	if err := os.Remove(s.published(snapshot)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
