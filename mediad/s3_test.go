package mediad

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"linecard.example/internal/config"
)

// versitygw is the S3 server of the tests. `make test` installs it beside the linter.
const versitygw = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// gatewayBinary finds the server, or installs it for this test.
func gatewayBinary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("LINECARD_VERSITYGW"); path != "" {
		return path
	}
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOPATH").Output()
	mustDo(t, err)
	path := filepath.Join(strings.TrimSpace(string(root)), "bin", "versitygw")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "install", versitygw)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", versitygw, err, out)
	}
	return filepath.Join(dir, "versitygw")
}

// s3Site is an S3 server on this machine, with a bucket in a folder.
type s3Site struct {
	folder string // of the bucket: objects are files
	cfg    S3Config
	cmd    *exec.Cmd
}

func newS3Site(t testing.TB) *s3Site {
	t.Helper()
	binary := gatewayBinary(t)
	dir := t.TempDir()
	s := &s3Site{folder: filepath.Join(dir, "data", "media")}
	for _, d := range []string{s.folder, filepath.Join(dir, "meta")} {
		mustDo(t, os.MkdirAll(d, 0o700))
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	mustDo(t, err)
	addr := free.Addr().String()
	free.Close()
	s.cfg = DefaultConfig().S3
	s.cfg.Endpoint, s.cfg.Plain, s.cfg.Bucket, s.cfg.Prefix = addr, true, "media", "a/"
	s.cfg.PartSize, s.cfg.Timeout = 5<<20, config.Duration(20*time.Second)
	s.cfg.AccessKeyFile, s.cfg.SecretKeyFile = filepath.Join(dir, "access"), filepath.Join(dir, "secret")
	mustDo(t, os.WriteFile(s.cfg.AccessKeyFile, []byte("root\n"), 0o600))
	mustDo(t, os.WriteFile(s.cfg.SecretKeyFile, []byte("not a secret\n"), 0o600))
	s.cmd = exec.Command(binary, "--port", addr, "--access", "root", "--secret", "not a secret", "--quiet",
		"posix", "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "data"))
	s.cmd.Stdout, s.cmd.Stderr = os.Stderr, os.Stderr
	mustDo(t, s.cmd.Start())
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	})
	deadline := time.Now().Add(time.Minute)
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("the S3 server does not come up: %v", err)
		}
		time.Sleep(10 * time.Millisecond) // another process: it can only be asked again
	}
}

// options are those of a depot on the bucket.
func (s *s3Site) options(t testing.TB, dir string) depotOptions {
	t.Helper()
	b, err := openBucket(s.cfg)
	mustDo(t, err)
	o := testOptions(dir, newClock())
	o.now, o.bucket = time.Now, b
	return o
}

// object is the file of an object below the prefix.
func (s *s3Site) object(key string) string { return filepath.Join(s.folder, s.cfg.Prefix, key) }

// age makes an object older.
func (s *s3Site) age(t testing.TB, key string, by time.Duration) {
	t.Helper()
	at := time.Now().Add(-by)
	mustDo(t, os.Chtimes(s.object(key), at, at))
}

func TestBucket(t *testing.T) {
	s := newS3Site(t)
	o := s.options(t, t.TempDir())
	d := openTest(t, o)
	small, large := bytesOf(1, 5000), bytesOf(2, 12<<20) // three parts
	h := put(t, d, 7, small)
	if put(t, d, 8, small) != h || put(t, d, 7, small) != h {
		t.Fatal("the same bytes have another name")
	}
	x, err := d.uploads.create(7, int64(len(large)), nil)
	mustDo(t, err)
	mustDo(t, x.write(large[:7<<20]))
	mustDo(t, x.close())
	x, err = d.uploads.open(t.Context(), x.id, 7, nil)
	mustDo(t, err)
	mustDo(t, x.write(large[7<<20:]))
	big, err := x.finish(t.Context())
	mustDo(t, err)
	mustDo(t, x.close())
	wantBlob(t, d, h, small)
	wantBlob(t, d, big, large)
	wantHeld(t, d, 7, holding{stored: 5000 + 12<<20})
	wantUploadFiles(t, o.dir, 1)
	empty := put(t, d, 7, nil)
	wantBlob(t, d, empty, nil)

	b, err := d.open(t.Context(), big)
	mustDo(t, err)
	for _, at := range []int64{11 << 20, 1, 6<<20 + 17, 12 << 20} {
		_, err := b.Seek(at, io.SeekStart)
		mustDo(t, err)
		got, err := io.ReadAll(io.LimitReader(b, 100000))
		mustDo(t, err)
		if want := large[at:min(at+100000, 12<<20)]; !bytes.Equal(got, want) {
			t.Fatalf("from %d: %d bytes, other than the %d that are there", at, len(got), len(want))
		}
	}
	mustDo(t, b.Close())
	wantNoBlob(t, d, blobHash{1})

	shut(t, d)
	d = openTest(t, o) // counted from the names
	wantHeld(t, d, 7, holding{stored: 5000 + 12<<20})
	wantHeld(t, d, 8, holding{stored: 5000})
	wantErr(t, d.end(t.Context(), h, 9), errNotFound)
	mustDo(t, d.end(t.Context(), h, 7))
	wantBlob(t, d, h, small)
	mustDo(t, d.end(t.Context(), h, 8))
	wantNoBlob(t, d, h)
	wantHeld(t, d, 8, holding{})
}

func TestBucketSweep(t *testing.T) {
	s := newS3Site(t)
	o := s.options(t, t.TempDir())
	d := openTest(t, o)
	old, kept, renewed := bytesOf(1, 1000), bytesOf(2, 2000), bytesOf(3, 3000)
	oldHash, keptHash, renewedHash := put(t, d, 7, old), put(t, d, 7, kept), put(t, d, 7, renewed)
	put(t, d, 8, kept)
	for _, r := range []reference{{oldHash, 7, 1000}, {keptHash, 7, 2000}, {renewedHash, 7, 3000}} {
		s.age(t, "refs/"+r.name(), o.retention+time.Hour)
		s.age(t, "blobs/"+r.hash.String(), o.retention+time.Hour)
	}
	put(t, d, 7, renewed)
	parts, err := d.blobs.(*bucket).client.NewMultipartUpload(t.Context(), "media", "a/blobs/"+strings.Repeat("ab", 32), minio.PutObjectOptions{})
	mustDo(t, err)
	d.tidy(t.Context())
	if want := (swept{references: 2, blobs: 1, bytes: 1000, kept: 2, keptBytes: 5000}); d.last != want || counter(d.count.sweeps) != 1 {
		t.Fatalf("swept %+v, want %+v", d.last, want)
	}
	wantNoBlob(t, d, oldHash)
	wantBlob(t, d, keptHash, kept)
	wantBlob(t, d, renewedHash, renewed)
	wantHeld(t, d, 7, holding{stored: 3000})
	// Parts of an upload that a crash cut off go too, when they are old.
	bucket := d.blobs.(*bucket)
	incomplete := func() (n int) {
		for p := range bucket.client.ListIncompleteUploads(t.Context(), "media", "a/blobs/", true) {
			mustDo(t, p.Err)
			if p.UploadID == parts {
				n++
			}
		}
		return n
	}
	if incomplete() != 1 {
		t.Fatal("fresh parts are gone")
	}
	mustDo(t, bucket.sweepParts(t.Context(), time.Now().Add(time.Hour)))
	if incomplete() != 0 {
		t.Fatal("old parts are there")
	}
}

func TestBucketFsck(t *testing.T) {
	s := newS3Site(t)
	cfg := DefaultConfig()
	cfg.Store, cfg.S3 = StoreS3, s.cfg
	dir := t.TempDir()
	d := openTest(t, s.options(t, dir))
	shared, mine, lost := put(t, d, 7, bytesOf(1, 1000)), put(t, d, 7, bytesOf(2, 2000)), put(t, d, 7, bytesOf(3, 3000))
	put(t, d, 8, bytesOf(1, 1000))
	fine := put(t, d, 8, bytesOf(4, 4000))
	shut(t, d)
	run := func(repair bool) (string, error) {
		var out bytes.Buffer
		err := Fsck(t.Context(), &out, cfg, dir, repair)
		return out.String(), err
	}
	if out, err := run(false); err != nil || !strings.HasPrefix(out, "4 blobs of 10000 bytes, 5 references of 2 accounts, 0 uploads\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	flip(t, s.object("blobs/"+shared.String()), 17)
	mustDo(t, os.Remove(s.object("blobs/"+lost.String())))
	mustDo(t, os.Rename(s.object("refs/"+reference{mine, 7, 2000}.name()), s.object("refs/"+reference{mine, 7, 1999}.name())))
	mustDo(t, os.WriteFile(s.object("blobs/notes.txt"), []byte("x"), 0o600))
	out, err := run(false)
	if !errors.Is(err, ErrDamaged) || strings.Count(out, "damaged: ") != 6 {
		t.Fatalf("want 6 faults: %v\n%s", err, out)
	}
	if out, err = run(true); err != nil || strings.Count(out, "repaired: ") != 6 {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err = run(false); err != nil || !strings.HasPrefix(out, "2 blobs of 6000 bytes, 2 references of 2 accounts") {
		t.Fatalf("after the repair: %v\n%s", err, out)
	}
	d = openTest(t, s.options(t, dir))
	wantBlob(t, d, fine, bytesOf(4, 4000))
	wantHeld(t, d, 7, holding{stored: 2000})
}

// TestBucketGone has the store away, or still, while an upload becomes complete: the upload waits, and is a blob when the store is back.
func TestBucketGone(t *testing.T) {
	s := newS3Site(t)
	target, err := url.Parse("http://" + s.cfg.Endpoint)
	mustDo(t, err)
	const (
		works = iota
		refuses
		hangs
	)
	var mood atomic.Int32
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // the name that was signed
	}}
	done := make(chan struct{})
	front := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch mood.Load() {
		case refuses:
			http.Error(w, "no", http.StatusServiceUnavailable)
		case hangs:
			select {
			case <-r.Context().Done():
			case <-done:
			}
		default:
			forward.ServeHTTP(w, r)
		}
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	mustDo(t, err)
	var served sync.WaitGroup
	served.Go(func() { front.Serve(ln) })
	t.Cleanup(func() {
		close(done)
		front.Close()
		served.Wait()
	})
	s.cfg.Endpoint, s.cfg.Timeout = ln.Addr().String(), config.Duration(time.Second)
	dir := t.TempDir()
	d := openTest(t, s.options(t, dir))
	p := bytesOf(1, 6<<20)
	x, err := d.uploads.create(7, int64(len(p)), nil)
	mustDo(t, err)
	mustDo(t, x.write(p))
	for _, m := range []int32{refuses, hangs} {
		mood.Store(m)
		_, err = x.finish(t.Context())
		wantErr(t, err, errUnavailable)
		_, err = d.open(t.Context(), x.hash())
		wantErr(t, err, errUnavailable)
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = x.finish(short)
	wantErr(t, err, errUnavailable)
	mustDo(t, x.close())
	if left, err := d.uploads.recover(t.Context()); left != 1 || !errors.Is(err, errUnavailable) {
		t.Fatalf("%d left, %v", left, err)
	}
	mood.Store(works)
	if left, err := d.uploads.recover(t.Context()); left != 0 || err != nil {
		t.Fatalf("%d left, %v", left, err)
	}
	x, err = d.uploads.open(t.Context(), x.id, 7, nil)
	mustDo(t, err)
	h, ok := x.finished()
	if !ok || h != hashOf(p) {
		t.Fatalf("finished %v %s", ok, h)
	}
	mustDo(t, x.close())
	wantBlob(t, d, h, p)
	wantHeld(t, d, 7, holding{stored: int64(len(p))})
}
