package mediad

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/config"
	"linecard.example/internal/wire"
)

// childVariable makes this test's binary a mediad on the directory that it names.
const childVariable = "LINECARD_MEDIAD_DIRECTORY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := beMediad(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// beMediad serves until the parent is gone. It tells its address.
func beMediad(dir string) error {
	cfg := DefaultConfig()
	cfg.Listen, cfg.FreeSpace = "127.0.0.1:0", 0
	cfg.Stall = config.Duration(time.Minute)
	s, err := New(cfg, Deps{Dir: dir})
	if err != nil {
		return err
	}
	s.SetKeys(grantPublics())
	fmt.Println(s.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return s.Run(ctx)
}

// victim is a mediad in a process of its own, which is killed and started again.
type victim struct {
	t    *testing.T
	dir  string
	url  string
	kill func() // of the process that runs now; returns when it is gone, and may be called again
}

func (v *victim) start() {
	v.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+v.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	mustDo(v.t, err)
	stdin, err := cmd.StdinPipe() // it ends when this process does
	mustDo(v.t, err)
	mustDo(v.t, cmd.Start())
	v.kill = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
		stdin.Close()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	mustDo(v.t, err)
	v.url = "http://" + strings.TrimSpace(addr)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // until what accounts have was counted
		r, err := v.try("PUT", blobsPath, nil, strings.NewReader(""), nil)
		if err == nil && r.StatusCode == http.StatusCreated {
			return
		}
		if time.Now().After(end) {
			v.t.Fatalf("it does not come up: %v", err)
		}
	}
}

// try sends a request with a grant for uploads, or for h, on a connection of its own.
func (v *victim) try(method, path string, header http.Header, body io.Reader, h *blobHash) (*http.Response, error) {
	g := wire.Grant{Method: wire.GrantUpload, Account: alice, Expires: time.Now().Unix() + 600, Limit: 1 << 40}
	if h != nil {
		g.Method, g.Limit, g.Blob = wire.GrantDownload, 0, *h
	}
	r, err := http.NewRequest(method, v.url+path, body)
	mustDo(v.t, err)
	if header != nil {
		r.Header = header
	}
	r.Header.Set("Authorization", "Bearer "+string(wire.AppendGrantText(nil, wire.AppendGrant(nil, grantKeys[0].Signer(), &g))))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return client.Do(r)
}

// fatal is a body that kills the server when n bytes of it were sent; less than 0: never.
type fatal struct {
	r    io.Reader
	n    int
	kill func()
}

func (f *fatal) Read(p []byte) (int, error) {
	if f.n == 0 {
		f.kill()
		f.n = -1
		return 0, io.ErrUnexpectedEOF
	}
	if f.n > 0 {
		p = p[:min(len(p), f.n)]
	}
	n, err := f.r.Read(p)
	if f.n > 0 {
		f.n -= n
	}
	return n, err
}

// spoil is how an upload meets the kill: in the middle of what is sent, or at about the time of the commit.
func (v *victim) spoil(r *rand.Rand, body []byte) io.Reader {
	if r.IntN(3) > 0 && len(body) > 0 {
		return &fatal{bytes.NewReader(body), r.IntN(len(body)), v.kill}
	}
	kill, wait := v.kill, time.Duration(r.IntN(20_000_000))
	go func() {
		time.Sleep(wait) // any moment will do
		kill()
	}()
	return &fatal{r: bytes.NewReader(body), n: -1}
}

// TestKill kills the process again and again while uploads go on. What was told to be there is there, and what is resumed lost a MiB
// at most of what the process had taken.
func TestKill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	v := &victim{t: t, dir: t.TempDir()}
	v.start()
	t.Cleanup(func() { v.kill() })
	uploads, kills := 3, 0
	if testing.Short() {
		uploads = 1
	}
	told := map[blobHash][]byte{}
	for n := range uploads {
		p := bytesOf(r.Uint64(), 2*syncEvery+r.IntN(3*syncEvery))
		resp, err := v.try("POST", uploadsPath, http.Header{"Tus-Resumable": {tusVersion}, "Upload-Length": {strconv.Itoa(len(p))}}, nil, nil)
		mustDo(t, err)
		if resp.StatusCode != http.StatusCreated {
			t.Fatal(resp.Status)
		}
		location := resp.Header.Get("Location")
		location = location[strings.Index(location, uploadsPath):]
		for at, round := int64(0), 0; ; round++ {
			if at == int64(len(p)) {
				break
			}
			if round == 8 {
				kills--
				v.patch(location, p, at, bytes.NewReader(p[at:])) // and now without a kill
			} else {
				v.patch(location, p, at, v.spoil(r, p[at:]))
				v.kill()
				taken := v.taken(location)
				v.start()
				if now := v.offset(location, p); now < taken-syncEvery || now < at {
					t.Fatalf("resumes at %d; %d bytes were taken, %d were told", now, taken, at)
				}
			}
			kills++
			at = v.offset(location, p)
		}
		told[sha256.Sum256(p)] = p

		p = bytesOf(r.Uint64(), r.IntN(2*syncEvery))
		resp, err = v.try("PUT", blobsPath, nil, v.spoil(r, p), nil)
		v.kill()
		kills++
		v.start()
		if err == nil && resp.StatusCode == http.StatusCreated {
			told[sha256.Sum256(p)] = p
		} else {
			v.all(p, false)
		}
		for _, p := range told {
			v.all(p, true)
		}
		t.Logf("upload %d is whole after %d kills", n, kills)
	}
	v.kill()
	if out, err := check(t, v.dir, false); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	v.start()
}

// patch sends an upload's bytes from at on; that it fails is what the test is about.
func (v *victim) patch(location string, p []byte, at int64, body io.Reader) {
	r, err := v.try("PATCH", location, http.Header{
		"Tus-Resumable": {tusVersion}, "Upload-Offset": {strconv.FormatInt(at, 10)}, "Content-Type": {"application/offset+octet-stream"},
	}, body, nil)
	if err == nil {
		r.Body.Close()
		if r.StatusCode != http.StatusNoContent {
			v.t.Fatalf("PATCH from %d of %d: %s", at, len(p), r.Status)
		}
	}
}

// offset asks where the upload is, and if it is finished for the blob.
func (v *victim) offset(location string, p []byte) int64 {
	v.t.Helper()
	r, err := v.try("HEAD", location, http.Header{"Tus-Resumable": {tusVersion}}, nil, nil)
	mustDo(v.t, err)
	at, err := strconv.ParseInt(r.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || r.StatusCode != http.StatusOK {
		v.t.Fatalf("HEAD: %s, %v", r.Status, err)
	}
	if at == int64(len(p)) {
		v.all(p, true)
	}
	return at
}

// taken is how many bytes of an upload the process had given to the kernel; 0 if it is a blob.
func (v *victim) taken(location string) int64 {
	st, err := os.Stat(filepath.Join(v.dir, "uploads", filepath.Base(location)+dataSuffix))
	if err != nil {
		return 0
	}
	return st.Size()
}

// all fetches a blob: it is there as it was sent, or not at all, which is right unless it must be there.
func (v *victim) all(p []byte, must bool) {
	v.t.Helper()
	h := blobHash(sha256.Sum256(p))
	r, err := v.try("GET", blobsPath+"/"+h.String(), nil, nil, &h)
	mustDo(v.t, err)
	defer r.Body.Close()
	got, err := io.ReadAll(r.Body)
	mustDo(v.t, err)
	if r.StatusCode == http.StatusNotFound && !must {
		return
	}
	if r.StatusCode != http.StatusOK || sha256.Sum256(got) != h {
		v.t.Fatalf("blob %s: %s, %d bytes of %d", h, r.Status, len(got), len(p))
	}
}
