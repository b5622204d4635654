package mediad

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

const childDir = "LINECARD_TEST_MEDIAD_DIR"

// TestChildServer is a mediad alone in a process, for TestManyUploads; without its environment it has nothing to do.
func TestChildServer(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		return
	}
	debug.SetGCPercent(25) // as internal/node does
	runtime.MemProfileRate = 0
	cfg := DefaultConfig()
	cfg.Listen, cfg.FreeSpace, cfg.SourceConnections = "127.0.0.1:0", 0, 8192
	s, err := New(cfg, Deps{Dir: dir})
	mustDo(t, err)
	s.SetKeys(grantPublics())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	go func() {
		end := time.Now().Add(time.Minute)
		for ok, _ := s.Ready(); !ok; ok, _ = s.Ready() {
			if time.Now().After(end) {
				cancel() // the parent sees the end of a process that said nothing
				return
			}
			time.Sleep(time.Millisecond) // until what accounts have was counted, which tells nobody
		}
		fmt.Printf("listening on %s\n", s.Addr())
	}()
	mustDo(t, s.Run(ctx))
}

// child starts such a process and returns where it listens, and its number.
func child(t *testing.T) (addr string, pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildServer$")
	cmd.Env = append(os.Environ(), childDir+"="+t.TempDir())
	stdin, err := cmd.StdinPipe()
	mustDo(t, err)
	stdout, err := cmd.StdoutPipe()
	mustDo(t, err)
	cmd.Stderr = os.Stderr
	mustDo(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server's process: %v", err)
		}
	})
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	mustDo(t, err)
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("the server said %q", line)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return addr, cmd.Process.Pid
}

// highWater returns the most memory that a process has had, in bytes.
func highWater(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	mustDo(t, err)
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no VmHWM in %s", b)
	}
	kb, err := strconv.Atoi(string(m[1]))
	mustDo(t, err)
	return kb << 10
}

// slowUpload is one upload of a client that stops in the middle.
type slowUpload struct {
	conn net.Conn
	r    *bufio.Reader
	data []byte
}

// TestManyUploads: 1,000 uploads at once, each from a connection of its own, stopped in the middle and going on together, fit into
// 64 MiB of a process, code and all.
func TestManyUploads(t *testing.T) {
	const size = 256 << 10
	uploads := 1000
	if testing.Short() {
		uploads = 100
	}
	addr, pid := child(t)
	empty := highWater(t, pid)
	key, expires := grantKeys[0].Signer(), time.Now().Unix()+3600
	data := bytesOf(8, size)
	all := make([]*slowUpload, uploads)
	each := func(what string, f func(i int, u *slowUpload) error) {
		var group sync.WaitGroup
		for i, u := range all {
			group.Go(func() {
				if err := f(i, u); err != nil {
					t.Errorf("%s: upload %d: %v", what, i, err)
				}
			})
		}
		group.Wait()
		if t.Failed() {
			t.FailNow()
		}
		t.Logf("%s: at most %.1f MB until now", what, float64(highWater(t, pid))/1e6)
	}
	for i := range all {
		c, err := net.Dial("tcp", addr)
		mustDo(t, err)
		defer c.Close()
		mustDo(t, c.SetDeadline(time.Now().Add(4*time.Minute)))
		all[i] = &slowUpload{conn: c, r: bufio.NewReader(c), data: data}
	}
	each("created and half sent", func(i int, u *slowUpload) error {
		g := wire.Grant{Method: wire.GrantUpload, Account: alice + stanza.Account(i/20), Expires: expires, Limit: size}
		grant := wire.AppendGrantText(nil, wire.AppendGrant(nil, key, &g))
		fmt.Fprintf(u.conn, "POST /v1/uploads?grant=%s HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Length: %d\r\n\r\n", grant, size)
		at, err := u.answer(http.StatusCreated, "Location")
		if err != nil {
			return err
		}
		fmt.Fprintf(u.conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", at, patchType, size)
		_, err = u.conn.Write(u.data[:size/2])
		return err
	})
	each("all sent", func(_ int, u *slowUpload) error {
		if _, err := u.conn.Write(u.data[size/2:]); err != nil {
			return err
		}
		got, err := u.answer(http.StatusNoContent, "Linecard-Blob")
		if err == nil && len(got) != 64 {
			err = fmt.Errorf("blob %q", got)
		}
		return err
	})
	most := highWater(t, pid)
	t.Logf("empty %.1f MB, with %d uploads %.1f MB, %.1f KB each", float64(empty)/1e6, uploads, float64(most)/1e6, float64(most-empty)/float64(uploads)/1e3)
	if most >= 64<<20 && !raceEnabled {
		t.Errorf("%d bytes of process memory, want less than 64 MiB", most)
	}
}

// answer reads an answer and returns one of its headers.
func (u *slowUpload) answer(status int, header string) (string, error) {
	resp, err := http.ReadResponse(u.r, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("%d %s", resp.StatusCode, b)
	}
	return resp.Header.Get(header), err
}
