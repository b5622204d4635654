package client

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"linecard.example/gateway/client/media"
)

const (
	receivedPrefix = "got-"
	// maxReceived is how many files a Home remembers; the oldest ones go first.
	maxReceived = 256
)

// ReceivedFile is a file that somebody sent, remembered in the Home until it is saved or forgotten: the message that had its key may be
// gone by then. Safe for concurrent use; one Save at a time.
type ReceivedFile struct {
	c    *Client
	name string // of the item

	running sync.Mutex
	rec     receivedRecord // Save, and before it is shared
}

type receivedRecord struct {
	From    string        `json:"from"` // as it was shown
	SentAt  time.Time     `json:"sent_at"`
	Pointer media.Pointer `json:"pointer"`
	Path    string        `json:"path,omitempty"` // where it is being saved; "" = nobody has asked yet
}

// RememberFile keeps m's file in the Home; from is the sender's name as it was shown. When it returns, m may be Done. A message
// without a file is an error.
func (c *Client) RememberFile(m *Message, from string) (*ReceivedFile, error) {
	if m.File == nil {
		return nil, fmt.Errorf("client: message %d has no file", m.ID)
	}
	names, err := c.home.items(receivedPrefix)
	if err != nil {
		return nil, err
	}
	for ; len(names) >= maxReceived; names = names[1:] {
		if err := c.home.dropItem(names[0]); err != nil {
			return nil, err
		}
	}
	f := &ReceivedFile{
		c: c, name: fmt.Sprintf("%s%016d-%d-%d-%d", receivedPrefix, max(m.SentAt.UnixMilli(), 0), m.From, m.FromDevice, m.ID),
		rec: receivedRecord{From: from, SentAt: m.SentAt, Pointer: *m.File},
	}
	return f, c.home.putItem(f.name, &f.rec)
}

// ReceivedFiles returns the files that are remembered, oldest first. What the Home has and cannot be read is dropped.
func (c *Client) ReceivedFiles() ([]*ReceivedFile, error) {
	names, err := c.home.items(receivedPrefix)
	if err != nil {
		return nil, err
	}
	var list []*ReceivedFile
	for _, name := range names {
		f := &ReceivedFile{c: c, name: name}
		err := c.home.item(name, &f.rec)
		if err == nil {
			err = f.rec.Pointer.Check()
		}
		if err != nil {
			c.log.Warn("a received file is forgotten", "err", err)
			if err := c.home.dropItem(name); err != nil {
				return nil, err
			}
			continue
		}
		list = append(list, f)
	}
	return list, nil
}

// From returns the sender's name as it was shown.
func (f *ReceivedFile) From() string { return f.rec.From }

// SentAt returns when the server stored the message.
func (f *ReceivedFile) SentAt() time.Time { return f.rec.SentAt }

// Pointer returns what the message says of the file: a copy.
func (f *ReceivedFile) Pointer() media.Pointer { return f.rec.Pointer }

// Path returns where an earlier run began to save it; "" when none did.
func (f *ReceivedFile) Path() string { return f.rec.Path }

// Save is FetchFile, and forgets the file when that is done. The Home remembers path, so that the next run can go on.
func (f *ReceivedFile) Save(ctx context.Context, path string, progress func(done, total int64)) error {
	if !f.running.TryLock() {
		return ErrFileBusy
	}
	defer f.running.Unlock()
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if path != f.rec.Path {
		f.rec.Path = path
		if err := f.c.home.putItem(f.name, &f.rec); err != nil {
			return err
		}
	}
	if err := f.c.FetchFile(ctx, &f.rec.Pointer, path, progress); err != nil {
		return err
	}
	return f.c.home.dropItem(f.name)
}

// Forget drops the file from the Home. What was fetched of it stays.
func (f *ReceivedFile) Forget() error { return f.c.home.dropItem(f.name) }
