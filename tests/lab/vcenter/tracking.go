package main

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Change tracking of one disk. The guest appends each write to changes.log; a change id is the tracking run's UUID
// and the number of a moment, and a moment is a length of the log.

const pageAreas = 2000 // what a real vCenter returns at most; readers that expect more lose data

type tracking struct {
	run     string // UUID part of change ids; empty while tracking is off
	moments map[int64]int64
	newest  int64
	// untracked disks get no change ids, though tracking is switched on for their VM.
	untracked bool
}

// start begins a new run: ids of earlier ones are void.
func (t *tracking) start() {
	var id [16]byte
	_, _ = rand.Read(id[:]) // documented never to fail
	t.run = fmt.Sprintf("% x-% x", id[:8], id[8:])
	t.moments = map[int64]int64{}
}

// live is what the running VM shows: the run that the next snapshot's id will belong to.
func (t *tracking) live() string {
	if t.run == "" {
		return ""
	}
	return t.run + "/" + strconv.FormatInt(t.newest+1, 10)
}

func (t *tracking) stop() { t.run = "" }

// mark makes a change id for the log's present length.
func (t *tracking) mark(length int64) string {
	t.newest++
	t.moments[t.newest] = length
	return t.run + "/" + strconv.FormatInt(t.newest, 10)
}

// moment looks a change id up. Known is false for an id of another run or a number that was never given out.
func (t *tracking) moment(changeID string) (length int64, known bool, err error) {
	run, number, found := strings.Cut(changeID, "/")
	n, parse := strconv.ParseInt(number, 10, 64)
	if !found || parse != nil {
		return 0, false, fmt.Errorf("%q is not a change id", changeID)
	}
	if run != t.run {
		return 0, false, nil
	}
	length, known = t.moments[n]
	return length, known, nil
}

// changed returns what the log says between two moments, in whole tracking units inside the disk.
func changed(dir string, from, to, capacity, unit int64) ([]extent, error) {
	written, err := readExtents(filepath.Join(dir, "changes.log"), from, to)
	if err != nil {
		return nil, err
	}
	for i, e := range written {
		first := e.offset / unit * unit
		last := min((e.end()+unit-1)/unit*unit, capacity)
		written[i] = extent{first, max(0, last-first)}
	}
	return union(written), nil
}

// page cuts one answer out of all areas: what lies at or after offset, and how far the answer reaches.
func page(areas []extent, offset, capacity int64) (cut []extent, length int64) {
	for _, area := range areas {
		if area.end() <= offset {
			continue
		}
		if len(cut) == pageAreas {
			return cut, cut[pageAreas-1].end() - offset
		}
		first := max(area.offset, offset)
		cut = append(cut, extent{first, area.end() - first})
	}
	return cut, capacity - offset
}
