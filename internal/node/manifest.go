package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"linecard.example/internal/stanza"
)

// manifestName is the file that makes a directory a backup: written last, so that what has none is not whole.
const manifestName = "backup.json"

const (
	manifestFormat = 1
	maxManifest    = 64 << 20 // 200 bytes for each file
)

// Manifest describes a backup: of what it is, and every file in it.
type Manifest struct {
	Format  int               `json:"format"`
	Data    int               `json:"data_format"` // of what was copied; 0: 1, there was no other then
	Version string            `json:"version"`     // of the linecard that made it
	Made    time.Time         `json:"made"`
	Node    string            `json:"node"` // id of the node that it is a copy of
	Cluster string            `json:"cluster"`
	Shards  int               `json:"shards"`
	Roles   []Role            `json:"roles"`
	Groups  map[string]uint64 `json:"groups"` // the entry that each group's log reaches to at least
	Files   []ManifestFile    `json:"files"`
}

// ManifestFile is one file of a backup.
type ManifestFile struct {
	Path   string `json:"path"` // relative, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// least is Groups by number.
func (m *Manifest) least() map[stanza.Group]uint64 {
	least := map[stanza.Group]uint64{}
	for name, index := range m.Groups {
		if g, ok := parseGroupName(name); ok {
			least[g] = index
		}
	}
	return least
}

func readManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, manifestName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no %s: it is no backup, or one that was broken off", dir, manifestName)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, err
	}
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("%s has format %d, this linecard reads %d", path, m.Format, manifestFormat)
	}
	if err := checkFormat("backup "+dir, m.Data); err != nil {
		return nil, err
	}
	for _, file := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(file.Path)) {
			return nil, fmt.Errorf("%s is damaged: it names the file %q", path, file.Path)
		}
	}
	return m, nil
}

func (m *Manifest) write(dir string) error {
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, manifestName), append(b, '\n'), 0o600)
}

// copyTree copies the files below from to a directory below out, synced, and notes them. What is no file and no directory is left out.
func (m *Manifest) copyTree(from, out, below string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		to := filepath.Join(below, rel)
		switch {
		case e.IsDir():
			return os.MkdirAll(filepath.Join(out, to), 0o700)
		case e.Type().IsRegular():
			return m.copyFile(path, out, to)
		}
		return nil
	})
}

// copyFile copies one file and notes it.
func (m *Manifest) copyFile(from, out, to string) error {
	size, sum, err := copyFile(from, filepath.Join(out, to))
	if err == nil {
		m.Files = append(m.Files, ManifestFile{Path: filepath.ToSlash(to), Size: size, SHA256: sum})
	}
	return err
}

// copyFile copies a file to a name that does not exist, synced, and returns its size and hash.
func copyFile(from, to string) (size int64, sum string, err error) {
	src, err := os.Open(from)
	if err != nil {
		return 0, "", err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, "", err
	}
	h := sha256.New()
	size, err = io.Copy(dst, io.TeeReader(src, h))
	return size, hex.EncodeToString(h.Sum(nil)), errors.Join(err, dst.Sync(), dst.Close())
}

// syncTree makes the names below a directory durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = syncDir(path)
		}
		return err
	})
}

// makeEmpty makes a directory, or refuses one that has something in it.
func makeEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty", dir)
	}
	return err
}
