package mediad

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"linecard.example/internal/stanza"
)

// faulty is a store whose calls fail while the error is set.
type faulty struct {
	blobs
	err atomic.Pointer[error]
}

func (f *faulty) fail(err error) { f.err.Store(&err) }

func (f *faulty) now() error {
	if e := f.err.Load(); e != nil {
		return *e
	}
	return nil
}

func (f *faulty) commit(ctx context.Context, h blobHash, size int64, account stanza.Account, file string) (bool, error) {
	if err := f.now(); err != nil {
		return false, err
	}
	return f.blobs.commit(ctx, h, size, account, file)
}

func (f *faulty) open(ctx context.Context, h blobHash) (*blob, error) {
	if err := f.now(); err != nil {
		return nil, err
	}
	return f.blobs.open(ctx, h)
}

func (f *faulty) end(ctx context.Context, h blobHash, account stanza.Account) (int64, error) {
	if err := f.now(); err != nil {
		return 0, err
	}
	return f.blobs.end(ctx, h, account)
}

// TestStoreUnreachable: nothing is lost that was uploaded, nothing is half there, and the cause is for the operator alone.
func TestStoreUnreachable(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want Reason
	}{
		{"unreachable", errors.Join(errUnavailable, errors.New("dial tcp 192.0.2.1: secret-bucket")), Unavailable},
		{"broken", errors.New("secret-bucket: a fault that nobody thought of"), Internal},
		{"full", errors.Join(errFull, errors.New("secret-bucket")), StorageFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := &faulty{}
			s := newSiteWith(t, func(s *Server) {
				store.blobs = s.depot.blobs
				s.depot.blobs, s.depot.uploads.blobs = store, store
			})
			h := s.put([]byte("was there before"))
			path := s.begin(10)
			store.fail(c.err)
			answers := []answer{
				s.do("GET", blobsPath+"/"+h.String(), s.downloadGrant(h), nil, nil),
				s.do("PUT", blobsPath, s.uploadGrant(100), nil, "x"),
				s.push(path, 0, "0123456789"),
				s.do("POST", uploadsPath, s.uploadGrant(100), tus("Upload-Length", "3", "Content-Type", patchType), "abc"),
			}
			for _, a := range answers {
				if s.want(a, c.want); strings.Contains(a.body, "secret") || c.want != Internal && a.Header.Get("Retry-After") == "" {
					t.Errorf("%s: %v %s", a.Request.Method, a.Header, a.body)
				}
			}
			s.want(s.do("HEAD", path, s.uploadGrant(100), tus(), nil), c.want) // all bytes are there, but it is no blob: not finished
			if !strings.Contains(s.log.String(), "secret-bucket") {
				t.Error("the log does not tell the cause")
			}
			store.fail(nil)
			a := s.do("HEAD", path, s.uploadGrant(100), tus(), nil)
			if s.wantStatus(a, http.StatusOK); a.Header.Get("Upload-Offset") != "10" || a.Header.Get("Linecard-Blob") == "" {
				t.Errorf("after the store came back: %v", a.Header)
			}
			s.nothingStaged(0)
			if n := len(glob(t, s.dir, "blobs/*/*/*")); n != 2 {
				t.Errorf("%d blobs, want the one before and the upload", n)
			}
		})
	}
}

// TestFullDiskAnswered: an upload that meets a full disk says so, keeps what is durable, and goes on when there is room.
func TestFullDiskAnswered(t *testing.T) {
	var full atomic.Bool
	s := newSiteWith(t, func(s *Server) {
		s.depot.files.step = func(op, path string, _ int64, _ []byte) error {
			if full.Load() && (op == "write" || op == "create") && strings.Contains(path, "uploads") {
				return syscall.ENOSPC
			}
			return nil
		}
	})
	path := s.begin(10)
	s.wantStatus(s.push(path, 0, "01234"), http.StatusNoContent)
	full.Store(true)
	for _, a := range []answer{
		s.push(path, 5, "56789"),
		s.do("PUT", blobsPath, s.uploadGrant(100), nil, "x"),
		s.do("POST", uploadsPath, s.uploadGrant(100), tus("Upload-Length", "3"), nil),
	} {
		if s.want(a, StorageFull); a.Header.Get("Retry-After") == "" {
			t.Error("it does not say when to come again")
		}
	}
	full.Store(false)
	if got := s.offsetOf(path); got != "5" {
		t.Fatalf("offset %s", got)
	}
	s.wantStatus(s.push(path, 5, "56789"), http.StatusNoContent)
	s.nothingStaged(0)
	s.idle()
}

// TestFloor: uploads leave the disk its free space.
func TestFloor(t *testing.T) {
	s := newSite(t, func(c *Config) { c.FreeSpace = 1 << 50 })
	s.want(s.do("PUT", blobsPath, s.uploadGrant(100), nil, "x"), StorageFull)
	s.want(s.do("POST", uploadsPath, s.uploadGrant(100), tus("Upload-Length", "3"), nil), StorageFull)
}
