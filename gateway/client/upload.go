package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"linecard.example/gateway/client/media"
)

const (
	uploadPrefix = "send-"
	// maxUploads bounds the files that wait to be sent: each holds its tags in memory while it is sent, and on disk.
	maxUploads = 64
	// dropWait is how long it may take to tell the server that an upload is given up.
	dropWait = 5 * time.Second
)

// AboutFile is what a message says of a file besides where it is. All of it is encrypted with the message, none is the server's.
type AboutFile struct {
	Name      string `json:"name"`                // "" = the name of the file sent
	Type      string `json:"type,omitempty"`      // media type
	Thumbnail []byte `json:"thumbnail,omitempty"` // at most 16 KiB; a message with it must fit into one frame with a copy for each device
	Caption   string `json:"caption,omitempty"`
}

// FileUpload is a file on its way to somebody. The Home keeps it until the message about it is in the outbox, so that the next run goes
// on where the server is. Safe for concurrent use; one Send at a time.
type FileUpload struct {
	c    *Client
	name string // of the item

	running sync.Mutex
	rec     uploadRecord // Send, and before it is shared
}

// uploadRecord is a FileUpload as the Home keeps it.
type uploadRecord struct {
	To      string     `json:"to"`
	Account Account    `json:"account"`
	Path    string     `json:"path"`
	About   AboutFile  `json:"about"`
	Plan    media.Plan `json:"plan"`
	URL     string     `json:"url,omitempty"`
}

// pointer returns what the message will say.
func (r *uploadRecord) pointer() *media.Pointer {
	return &media.Pointer{
		Blob: r.Plan.Blob, Key: r.Plan.Key, Size: r.Plan.Size,
		Name: r.About.Name, Type: r.About.Type, Thumbnail: r.About.Thumbnail, Caption: r.About.Caption,
	}
}

// NewFileUpload reads the file at path once, under a fresh key, and writes to the Home that it is to be sent to the account of a
// name; Send sends it. The file must stay as it is until then. Errors: ErrBadName, ErrUnknownName, ErrTooManyFiles, media.ErrPointer for
// what cannot be said about a file, media.ErrTooBig, those of the file, ctx's, the client's.
func (c *Client) NewFileUpload(ctx context.Context, to, path string, about AboutFile) (*FileUpload, error) {
	if err := c.Ready(ctx); err != nil {
		return nil, err
	}
	a, err := c.Lookup(ctx, to)
	if err != nil {
		return nil, err
	}
	if have, err := c.home.items(uploadPrefix); err != nil || len(have) >= maxUploads {
		return nil, errors.Join(err, ErrTooManyFiles)
	}
	rec := uploadRecord{Account: a, About: about}
	rec.To, _ = c.fold(to) // Lookup has judged it
	if rec.Path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if rec.About.Name == "" {
		rec.About.Name = shortName(filepath.Base(rec.Path))
	}
	f, size, err := openRegular(rec.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := rec.pointer().Check(); err != nil { // before the work
		return nil, err
	}
	plan, err := media.NewPlan(ctx, f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	rec.Plan = *plan
	u := &FileUpload{c: c, name: fmt.Sprintf("%s%019d-%x", uploadPrefix, time.Now().UnixNano(), plan.Blob[:4]), rec: rec}
	if err := c.home.putItem(u.name, &u.rec); err != nil {
		return nil, err
	}
	return u, nil
}

// shortName makes a file's name one that a pointer takes.
func shortName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	for len(name) > media.MaxName { // its end says of what type it is
		_, n := utf8.DecodeRuneInString(name)
		name = name[n:]
	}
	return name
}

// openRegular opens a file that has a length and can be read at any offset.
func openRegular(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// FileUploads returns the files that earlier runs did not get sent, oldest first. What the Home has and cannot be read is dropped.
func (c *Client) FileUploads() ([]*FileUpload, error) {
	names, err := c.home.items(uploadPrefix)
	if err != nil {
		return nil, err
	}
	var list []*FileUpload
	for _, name := range names {
		u := &FileUpload{c: c, name: name}
		err := c.home.item(name, &u.rec)
		if err == nil {
			err = errors.Join(u.rec.Plan.Check(), u.rec.pointer().Check())
		}
		if err != nil {
			c.log.Warn("a file that was to be sent is forgotten", "err", err)
			if err := c.home.dropItem(name); err != nil {
				return nil, err
			}
			continue
		}
		list = append(list, u)
	}
	return list, nil
}

// To returns the name of whom the file goes to.
func (u *FileUpload) To() string { return u.rec.To }

// Path returns where the file is.
func (u *FileUpload) Path() string { return u.rec.Path }

// Name returns the name under which it is sent.
func (u *FileUpload) Name() string { return u.rec.About.Name }

// Size returns its length.
func (u *FileUpload) Size() int64 { return u.rec.Plan.Size }

// Send uploads the file, from where the server is, and sends the message about it. progress, which may be nil, is told how much of the blob
// is sent; it can fall back, and is called on another goroutine. When Send returns nil the message is written to the Home, synced, and the
// FileUpload is done with. After an error it can be sent again, in another run too, but for media.ErrChanged: the file is not the one any
// more that was read first, and the FileUpload is gone. Other errors: ErrFileBusy, ErrNoMedia, ErrBlobTooLarge, *media.StatusError,
// what Send says of messages, those of the file, ctx's, the client's.
func (u *FileUpload) Send(ctx context.Context, progress func(done, total int64)) (*Sent, error) {
	if !u.running.TryLock() {
		return nil, ErrFileBusy
	}
	defer u.running.Unlock()
	if err := u.upload(ctx, progress); err != nil {
		if errors.Is(err, media.ErrChanged) {
			err = errors.Join(err, u.drop(ctx))
		}
		return nil, err
	}
	s, err := u.tell(ctx)
	if err != nil {
		return nil, err
	}
	if err := u.c.home.sync(); err != nil { // the item must not go before the message is there
		return nil, err
	}
	return s, u.c.home.dropItem(u.name)
}

func (u *FileUpload) upload(ctx context.Context, progress func(done, total int64)) error {
	f, size, err := openRegular(u.rec.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if size != u.rec.Plan.Size {
		return fmt.Errorf("%w: it has %d bytes now", media.ErrChanged, size)
	}
	up := &media.Upload{
		Plan: &u.rec.Plan, File: io.ReaderAt(f), URL: u.rec.URL, Progress: progress,
		Save: func(url string) error {
			u.rec.URL = url
			return u.c.home.putItem(u.name, &u.rec)
		},
	}
	return u.c.opt.Media.Upload(ctx, up, u.c.uploadGrants(media.BlobSize(size)))
}

// tell sends the message, unless an earlier run did and could not note it any more.
func (u *FileUpload) tell(ctx context.Context) (*Sent, error) {
	if s := u.c.sentFile(u.rec.Account, u.rec.Plan.Blob); s != nil {
		return s, nil
	}
	return u.c.sendTo(ctx, u.rec.Account, payload{to: u.rec.To, file: u.rec.pointer()})
}

// sentFile returns the unacked message about a blob; nil when there is none.
func (c *Client) sentFile(to Account, blob [32]byte) *Sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, m := range c.out.byID {
		if m.rec.to != to || m.rec.kind != sendMessage {
			continue
		}
		pl, err := parsePayload(m.rec.payload)
		if err != nil || pl.file == nil || pl.file.Blob != blob {
			continue
		}
		if m.sent == nil {
			m.sent = &Sent{ID: id, To: to, c: c, done: make(chan struct{})}
		}
		return m.sent
	}
	return nil
}

// Drop forgets the file, and what the server has of an unfinished upload, if the server can be reached. A message that was sent stays.
func (u *FileUpload) Drop(ctx context.Context) error {
	if !u.running.TryLock() {
		return ErrFileBusy
	}
	defer u.running.Unlock()
	return u.drop(ctx)
}

func (u *FileUpload) drop(ctx context.Context) error {
	if u.rec.URL != "" {
		ctx, cancel := context.WithTimeout(ctx, dropWait) // without a session there is no grant
		defer cancel()
		if err := u.c.opt.Media.Forget(ctx, u.rec.URL, u.c.uploadGrants(media.BlobSize(u.rec.Plan.Size))); err != nil {
			u.c.log.Info("an unfinished upload is left to expire", "err", err)
		}
	}
	return u.c.home.dropItem(u.name)
}

// SendFile is NewFileUpload and Send. After an error the file may be among FileUploads.
func (c *Client) SendFile(ctx context.Context, to, path string, about AboutFile, progress func(done, total int64)) (*Sent, error) {
	u, err := c.NewFileUpload(ctx, to, path, about)
	if err != nil {
		return nil, err
	}
	return u.Send(ctx, progress)
}
