package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"os"
	"path/filepath"
	"strings"

	"linecard.example/gateway/client"
	"linecard.example/gateway/client/media"
)

// sendFile sends a file to somebody, from where an earlier run for the same file and name was cut, if one was.
func sendFile(ctx context.Context, c *client.Client, to, path, caption string, p *progress) (*client.Sent, error) {
	u, err := unfinished(c, to, path)
	if err != nil {
		return nil, err
	}
	if u != nil {
		s, err := u.Send(ctx, p.note)
		if !errors.Is(err, media.ErrChanged) {
			return s, err
		}
	}
	u, err = c.NewFileUpload(ctx, to, path, aboutFile(path, caption))
	if err != nil {
		return nil, err
	}
	return u.Send(ctx, p.note)
}

// unfinished returns what an earlier run left of sending the file to that name; nil when none did.
func unfinished(c *client.Client, to, path string) (*client.FileUpload, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	list, err := c.FileUploads()
	if err != nil {
		return nil, err
	}
	for _, u := range list {
		if u.Path() == path && u.To() == strings.ToLower(to) {
			return u, nil
		}
	}
	return nil, nil
}

// aboutFile says of a file what its name tells.
func aboutFile(path, caption string) client.AboutFile {
	t := mime.TypeByExtension(filepath.Ext(path))
	if (&media.Pointer{Type: t}).Check() != nil {
		t = ""
	}
	return client.AboutFile{Type: t, Caption: caption}
}

// passes reports whether a transfer that ended with err may go on another time.
func passes(err error) bool {
	return errors.Is(err, media.ErrGivenUp) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, client.ErrClosed) || errors.Is(err, client.ErrFileBusy)
}

// maxSameName is how many files of one name a folder takes.
const maxSameName = 1000

// freeName returns a path in dir for a file that was received, other than those of files that are there.
func freeName(dir string, p *media.Pointer) (string, error) {
	name := p.SafeName()
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	for n := 1; n <= maxSameName; n++ {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return path, nil
		} else if err != nil {
			return "", err
		}
		name = fmt.Sprintf("%s (%d)%s", stem, n+1, ext)
	}
	return "", fmt.Errorf("%s: too many files named %s", dir, p.SafeName())
}

// destination returns where a file goes that is to be saved at where: "" is the working folder, a folder is one, anything else a path.
func destination(where string, p *media.Pointer) (string, error) {
	if rest, ok := strings.CutPrefix(where, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		where = filepath.Join(home, rest)
	}
	if where == "" {
		where = "."
	}
	if info, err := os.Stat(where); err == nil && info.IsDir() {
		return freeName(where, p)
	}
	return where, nil
}
