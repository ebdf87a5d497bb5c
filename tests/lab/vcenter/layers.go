package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

// A disk is a stack of layers, as on a real host: base.raw, and above it one delta for every snapshot, each a sparse
// file of the disk's full size. What a delta holds is listed in its map, an append-only run of extents. The file
// "layers" names the stack from the bottom; the guest writes to the last. Taking a snapshot therefore copies nothing,
// and a frozen base is a plain file that a hot-added device can point at.
//
// The guest (another process) reads and writes under the lock file of its VM, and so does everything below.

const recordSize = 16 // offset and length, little-endian

const mergeChunk = 1 << 20

// Linux whence values that the standard library does not name.
const (
	seekData = 3
	seekHole = 4
)

type extent struct{ offset, length int64 }

func (e extent) end() int64 { return e.offset + e.length }

// union sorts extents and joins those that touch.
func union(extents []extent) []extent {
	sort.Slice(extents, func(i, j int) bool { return extents[i].offset < extents[j].offset })
	var joined []extent
	for _, next := range extents {
		if last := len(joined) - 1; last >= 0 && next.offset <= joined[last].end() {
			joined[last].length = max(joined[last].end(), next.end()) - joined[last].offset
			continue
		}
		joined = append(joined, next)
	}
	return joined
}

// readExtents returns records [first, last) of a map or change log; none of one that nobody wrote to yet.
func readExtents(path string, first, last int64) ([]extent, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.NewSectionReader(file, first*recordSize, (last-first)*recordSize))
	if err != nil {
		return nil, err
	}
	read := make([]extent, 0, len(data)/recordSize)
	for ; len(data) >= recordSize; data = data[recordSize:] {
		read = append(read, extent{
			offset: int64(binary.LittleEndian.Uint64(data)), length: int64(binary.LittleEndian.Uint64(data[8:])),
		})
	}
	return read, nil
}

// records counts what a map or change log holds.
func records(path string) (int64, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size() / recordSize, nil
}

// stack is the layers of one disk.
type stack struct {
	dir    string
	layers []string
	serial int // of the newest delta ever made, so that no name is used twice
}

func newStack(dir string) (*stack, error) {
	s := &stack{dir: dir, layers: []string{"base.raw"}}
	return s, s.save()
}

func (s *stack) path(layer string) string { return filepath.Join(s.dir, layer) }

func (s *stack) mapPath(layer string) string {
	return s.path(strings.TrimSuffix(layer, ".raw") + ".map")
}

func (s *stack) top() string { return s.layers[len(s.layers)-1] }

// save publishes the stack to the guest.
func (s *stack) save() error {
	temporary := s.path("layers.new")
	if err := os.WriteFile(temporary, []byte(strings.Join(s.layers, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, s.path("layers"))
}

// push freezes the top by putting an empty delta above it.
func (s *stack) push(size int64) error {
	s.serial++
	layer := fmt.Sprintf("delta-%06d.raw", s.serial)
	file, err := os.OpenFile(s.path(layer), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		return err
	}
	if err := os.WriteFile(s.mapPath(layer), nil, 0o600); err != nil {
		return err
	}
	s.layers = append(s.layers, layer)
	return s.save()
}

// fold merges the layer above position i down into it; its name disappears.
func (s *stack) fold(i int) error {
	lower, upper := s.layers[i], s.layers[i+1]
	if err := s.pour(upper, s.path(lower)); err != nil {
		return err
	}
	if i > 0 {
		moved, err := os.ReadFile(s.mapPath(upper))
		if err != nil {
			return err
		}
		list, err := os.OpenFile(s.mapPath(lower), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		defer list.Close()
		if _, err := list.Write(moved); err != nil {
			return err
		}
	}
	s.layers = append(s.layers[:i+1:i+1], s.layers[i+2:]...)
	if err := s.save(); err != nil {
		return err
	}
	return errors.Join(os.Remove(s.path(upper)), os.Remove(s.mapPath(upper)))
}

// pour writes what a delta holds over the file at path. Zeros become holes again, so that thin stays thin.
func (s *stack) pour(layer, path string) error {
	count, err := records(s.mapPath(layer))
	if err != nil {
		return err
	}
	extents, err := readExtents(s.mapPath(layer), 0, count)
	if err != nil {
		return err
	}
	from, err := os.Open(s.path(layer))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	buffer := make([]byte, mergeChunk)
	for _, part := range union(extents) {
		for at := part.offset; at < part.end(); at += mergeChunk {
			chunk := buffer[:min(mergeChunk, part.end()-at)]
			if _, err := from.ReadAt(chunk, at); err != nil {
				return err
			}
			if err := put(to, chunk, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func put(file *os.File, chunk []byte, at int64) error {
	for _, b := range chunk {
		if b != 0 {
			_, err := file.WriteAt(chunk, at)
			return err
		}
	}
	const punch = 0x02 | 0x01 // FALLOC_FL_PUNCH_HOLE and KEEP_SIZE
	return syscall.Fallocate(int(file.Fd()), punch, at, int64(len(chunk)))
}

// flatten writes the stack up to and including a layer as one plain file.
func (s *stack) flatten(layer, path string) error {
	if err := copySparse(s.path(s.layers[0]), path); err != nil {
		return err
	}
	for _, above := range s.layers[1:] {
		if err := s.pour(above, path); err != nil {
			return err
		}
		if above == layer {
			return nil
		}
	}
	return fmt.Errorf("%s is not a delta of %s", layer, s.dir)
}

// copySparse copies data and leaves holes.
func copySparse(source, target string) error {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if err := to.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		data, err := from.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := from.Seek(data, seekHole)
		if err != nil {
			return err
		}
		if _, err := to.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(to, io.NewSectionReader(from, data, hole-data)); err != nil {
			return err
		}
		at = hole
	}
	return nil
}
