package disktest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/vfs"
)

// Search looks for markers in every byte of every file below dir and returns where they are, a line for each. Markers are random
// bytes, which no compression changes. Tests want many: the one that lies across two fragments of a WAL, with a header between them,
// is not found.
func Search(disk vfs.FS, dir string, markers [][]byte) (found []string, err error) {
	names, err := disk.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		path := disk.PathJoin(dir, name)
		info, err := disk.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since: a database lives here
		}
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			below, err := Search(disk, path, markers)
			if err != nil {
				return nil, err
			}
			found = append(found, below...)
			continue
		}
		text, err := read(disk, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for i, m := range markers {
			if at := bytes.Index(text, m); at >= 0 {
				found = append(found, fmt.Sprintf("marker %d in %s at %d of %d", i, path, at, len(text)))
			}
		}
	}
	return found, nil
}

// SearchDir is Search on the machine's own file system.
func SearchDir(dir string, markers [][]byte) ([]string, error) {
	return Search(vfs.Default, dir, markers)
}

func read(disk vfs.FS, path string) ([]byte, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
