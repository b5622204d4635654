package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Items are small files in the Home's folder "files", one for each file on its way: they change seldom, come and go one by one, and may
// be larger than a record of the journal. Each is replaced at once and durably. They have keys in them, like the journal.
const itemFolder = "files"

func (h *Home) itemPath(name string) string { return filepath.Join(h.dir, itemFolder, name) }

// putItem writes an item, durably.
func (h *Home) putItem(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if h.dir == "" {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.kept[name] = data
		return nil
	}
	if err := makeDir(h.path(itemFolder)); err != nil {
		return fmt.Errorf("home: %w", err)
	}
	if err := writeFile(h.itemPath(name), data); err != nil {
		return fmt.Errorf("home: %w", err)
	}
	return nil
}

// item reads an item into v.
func (h *Home) item(name string, v any) error {
	var data []byte
	var err error
	if h.dir == "" {
		h.mu.Lock()
		data = h.kept[name]
		h.mu.Unlock()
	} else if data, err = os.ReadFile(h.itemPath(name)); err != nil {
		return fmt.Errorf("home: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrHomeCorrupt, name, err)
	}
	return nil
}

// dropItem forgets an item; one that is not there is none.
func (h *Home) dropItem(name string) error {
	if h.dir == "" {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.kept, name)
		return nil
	}
	err := os.Remove(h.itemPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(h.path(itemFolder))
	}
	if err != nil {
		return fmt.Errorf("home: %w", err)
	}
	return nil
}

// items returns the names of the items that begin with prefix, in order.
func (h *Home) items(prefix string) ([]string, error) {
	var names []string
	if h.dir == "" {
		h.mu.Lock()
		for name := range h.kept {
			names = append(names, name)
		}
		h.mu.Unlock()
	} else {
		entries, err := os.ReadDir(h.path(itemFolder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("home: %w", err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) || strings.HasSuffix(n, ".new") })
	slices.Sort(names)
	return names, nil
}
