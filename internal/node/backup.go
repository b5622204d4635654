package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"linecard.example/internal/metrics"
	"linecard.example/internal/shard"
)

// AskAdmin posts a command to a process's admin listener and decodes its JSON answer into the value that it is given.
type AskAdmin func(ctx context.Context, path string, answer any) error

// abortLimit bounds the call that ends a backup after its context ended.
const abortLimit = 10 * time.Second

// Backup copies the databases of a running process into out, which must not exist or be empty, with the keys that are in its data
// directory, and checks the copy; w gets what Fsck writes. It runs on the machine of the process, as its user. What it leaves after an
// error has no manifest and is no backup.
func Backup(ctx context.Context, w io.Writer, ask AskAdmin, out string, now time.Time) error {
	if err := makeEmpty(out); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	var a checkpointAnswer
	if err := ask(ctx, "/backup", &a); err != nil {
		return err
	}
	m, err := copyCheckpoint(ctx, &a, out, now)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
	defer cancel()
	if errDone := ask(end, "/backup/done?id="+a.ID, &struct{}{}); err == nil && errDone != nil {
		err = fmt.Errorf("the checkpoint was gone before it was copied, or stays: %w", errDone)
	}
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	c := &check{w: w, data: out, node: m.Node, least: m.least()}
	if err := c.run(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if len(c.faults) > 0 {
		return fmt.Errorf("backup: %w: %s; so are the data that were copied, or this disk: see linecard fsck", ErrDamaged, c.faults[0])
	}
	if err := m.write(out); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// copyCheckpoint copies everything but the manifest.
func copyCheckpoint(ctx context.Context, a *checkpointAnswer, out string, now time.Time) (*Manifest, error) {
	version, revision := metrics.Build()
	written := aloneFormat
	if f, err := readFacts(a.Data); err != nil {
		return nil, err
	} else if f != nil {
		written = f.format
	}
	m := &Manifest{
		Format: manifestFormat, Data: written, Version: version + " " + revision, Made: now.UTC().Truncate(time.Second),
		Node: a.Node, Cluster: a.Cluster, Shards: a.Shards, Groups: a.Groups,
	}
	for _, role := range []Role{Router, Offline} {
		dir, ok := a.Dirs[role]
		if !ok {
			continue
		}
		m.Roles = append(m.Roles, role)
		if err := errors.Join(ctx.Err(), m.copyTree(dir, out, string(role))); err != nil {
			return nil, fmt.Errorf("copying %s, which needs the process's machine and user: %w", dir, err)
		}
	}
	for _, name := range []string{"keys", fileRootPub} {
		path := filepath.Join(a.Data, name)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil && info.IsDir():
			err = m.copyTree(path, out, name)
		case err == nil:
			err = m.copyFile(path, out, name)
		}
		if err != nil {
			return nil, err
		}
	}
	return m, syncTree(out)
}

// Restore makes a data directory of a backup: that of a new node, alone in a cluster of its own with everything that was in the copy.
// data must not exist or be empty. Every file is held against the manifest, and the copy is checked like by Fsck, which writes to w. A
// node file is written last: what an error leaves behind does not start.
func Restore(w io.Writer, from, data string, now time.Time) (*Manifest, error) {
	m, err := readManifest(from)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if err := makeEmpty(data); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	for _, f := range m.Files {
		if err := restoreFile(from, data, f); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
	}
	c := &check{w: w, data: data, node: m.Node, least: m.least()}
	if err := c.run(); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if len(c.faults) > 0 {
		return nil, fmt.Errorf("restore: %w: %s", ErrDamaged, c.faults[0])
	}
	roles, err := rolesIn(data)
	if err == nil && !slices.Equal(roles, m.Roles) {
		err = fmt.Errorf("the manifest says %q, there is %q", m.Roles, roles)
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	id := identity{path: filepath.Join(data, "node"), id: randomID()}
	for _, role := range roles {
		if err := shard.Reseat(nil, filepath.Join(data, string(role)), id.name(), now); err != nil {
			return nil, fmt.Errorf("restore: %w", named(role, err))
		}
	}
	f := &facts{format: max(m.Data, 1), cluster: m.Cluster, shards: m.Shards}
	if err := errors.Join(f.write(data), syncTree(data), id.write()); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return m, nil
}

// restoreFile copies one file of a backup and compares it with the manifest.
func restoreFile(from, data string, f ManifestFile) error {
	name := filepath.FromSlash(f.Path)
	to := filepath.Join(data, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	size, sum, err := copyFile(filepath.Join(from, name), to)
	if err == nil && (size != f.Size || sum != f.SHA256) {
		err = fmt.Errorf("%s is not the file that was backed up: the backup is damaged, take an older one", filepath.Join(from, name))
	}
	return err
}
