package node

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// identity is the random number that names this data directory for ever.
type identity struct {
	path string
	id   uint64
	new  bool // no start has opened all groups yet: they may be bootstrapped
}

// freshMark stands behind the number until the first start has opened every group, so that a crash during that start does not
// leave a directory that refuses to start.
const freshMark = " new"

// makeIdentity is readIdentity of a data directory that may not be there yet.
func makeIdentity(dir string) (identity, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return identity{}, fmt.Errorf("data directory: %w", err)
	}
	return readIdentity(dir)
}

// readIdentity reads dir/node, or makes it when it does not exist. Anything else in the file than 16 hexadecimal digits, the mark
// and a line end is an error that names the file: a wrong id would start a second life under the data of the first.
func readIdentity(dir string) (identity, error) {
	path := filepath.Join(dir, "node")
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fresh := identity{path: path, id: randomID(), new: true}
		return fresh, fresh.write()
	case err != nil:
		return identity{}, fmt.Errorf("node id: %w", err)
	}
	return parseIdentity(path, text)
}

func parseIdentity(path string, text []byte) (identity, error) {
	digits, isNew := strings.CutSuffix(strings.TrimSuffix(string(text), "\n"), freshMark)
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != 8 || binary.BigEndian.Uint64(raw) == 0 {
		return identity{}, fmt.Errorf("node id: %s is damaged: want 16 hexadecimal digits; restore it from a backup, "+
			"or start with an empty data directory", path)
	}
	return identity{path: path, id: binary.BigEndian.Uint64(raw), new: isNew}, nil
}

// settle notes that every group exists: from now on an empty log under this id is a lost log.
func (i *identity) settle() error {
	if !i.new {
		return nil
	}
	i.new = false
	return i.write()
}

func (i identity) write() error {
	line := hex.EncodeToString(binary.BigEndian.AppendUint64(nil, i.id))
	if i.new {
		line += freshMark
	}
	if err := writeFile(i.path, []byte(line+"\n"), 0o600); err != nil {
		return fmt.Errorf("node id: %w", err)
	}
	return nil
}

// name is the number as raft and the databases know it.
func (i identity) name() string { return strconv.FormatUint(i.id, 16) }

// randomID returns a random number other than 0.
func randomID() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails: it ends the process instead
		if id := binary.BigEndian.Uint64(b[:]); id != 0 {
			return id
		}
	}
}

// writeFile writes a file that is whole or not there: a temporary one beside it, synced, renamed, and the folder synced.
func writeFile(path string, content []byte, mode os.FileMode) error {
	return writeFiles(filepath.Dir(path), mode, map[string][]byte{filepath.Base(path): content})
}

// writeFiles is writeFile for several in one folder: none takes its name before all are on the disk, so that a full one leaves all as
// they were.
func writeFiles(dir string, mode os.FileMode, files map[string][]byte) error {
	staged := map[string]string{}
	defer func() {
		for _, temp := range staged {
			os.Remove(temp) // fails after the rename, as it should
		}
	}()
	for name, content := range files {
		f, err := os.CreateTemp(dir, "."+name+"-")
		if err != nil {
			return err
		}
		staged[name] = f.Name()
		_, err = f.Write(content)
		if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	for name, temp := range staged {
		if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
