package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"linecard.example/gateway/client/media"
)

// FetchFile fetches a file to path, which must not be there yet, and returns when it is there, whole, verified and on disk. Until then
// what was fetched is beside it under another name, from where the next call for the same pointer and path goes on. progress, which may
// be nil, is told how much of the file is there. Errors: fs.ErrExist, ErrFileBusy, ErrNoMedia, media.ErrDamaged, *media.StatusError (404: the
// server does not have it any more), those of the file system, ctx's, the client's.
func (c *Client) FetchFile(ctx context.Context, p *media.Pointer, path string, progress func(done, total int64)) (err error) {
	if err := p.Check(); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	part := PartOf(p, path)
	f, err := openPart(part)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := c.opt.Media.Fetch(ctx, p, f, have, c.blobGrants(p.Blob), progress); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return finish(part, path)
}

// PartOf returns where FetchFile keeps what it has of a file that goes to path.
func PartOf(p *media.Pointer, path string) string {
	return filepath.Join(filepath.Dir(path), fmt.Sprintf(".%x.part", p.Blob[:8]))
}

// openPart opens what there is of a file, for one process at a time.
func openPart(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, ErrFileBusy
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("%s: lock: %w", path, err)
	}
	return f, nil
}

// finish gives a whole file its name, without replacing one that came meanwhile, where the file system can do that.
func finish(part, path string) error {
	err := os.Link(part, path)
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if err == nil {
		err = os.Remove(part)
	} else { // no hard links here
		err = os.Rename(part, path)
	}
	return errors.Join(err, syncDir(filepath.Dir(path)))
}

// OpenFile returns a file that stays at the server, to be read in ranges. Its ReadAt ends with ctx. Error: media.ErrPointer.
func (c *Client) OpenFile(ctx context.Context, p *media.Pointer) (*media.Remote, error) {
	return c.opt.Media.Remote(ctx, p, c.blobGrants(p.Blob))
}
