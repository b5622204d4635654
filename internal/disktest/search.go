package disktest

import (
	"bytes"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/vfs"
)

// Search looks for markers in every byte of every file below dir and returns where they are, a line for each. Markers are random
// bytes, which no compression changes. Tests want many: the one that lies across two fragments of a WAL, with a header between them,
// is not found.
func Search(fs vfs.FS, dir string, markers [][]byte) (found []string, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			below, err := Search(fs, path, markers)
			if err != nil {
				return nil, err
			}
			found = append(found, below...)
			continue
		}
		text, err := read(fs, path)
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

func read(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
