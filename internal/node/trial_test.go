package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTrialKeeps: a trial's ports and keys are made once; what does not fit them is refused with a line that says what to do.
func TestTrialKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cluster")
	open := func(dir string, port int, now time.Time) (*Trial, error) {
		tr, err := OpenTrial(dir, port, now)
		if err == nil {
			t.Cleanup(tr.lock.close)
		}
		return tr, err
	}
	now := time.Now()
	first, err := open(dir, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(dir, 0, now); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("two at a time: %v", err)
	}
	first.lock.close()
	root, err := os.ReadFile(first.Root())
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{} // of all listeners
	for name, cfg := range first.cfgs {
		addrs := []string{cfg.Admin.Listen, cfg.Links.Listen, cfg.Raft.Listen}
		if name == "gateway" {
			addrs = []string{cfg.Admin.Listen, cfg.Gateway.Listen}
		}
		for _, a := range addrs {
			if ports[a] != "" {
				t.Errorf("%s is of %s and %s", a, ports[a], name)
			}
			ports[a] = name
		}
	}
	if len(ports) != 20 {
		t.Errorf("%d ports", len(ports))
	}
	expired, err := os.ReadFile(filepath.Join(dir, "keys", "router-2.cert"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := open(dir, 0, now.Add(leafLifetime))
	if err != nil {
		t.Fatal(err)
	}
	if again.Listen() != first.Listen() {
		t.Errorf("clients find it at %s, and before at %s", again.Listen(), first.Listen())
	}
	if now, err := os.ReadFile(again.Root()); err != nil || !bytes.Equal(now, root) {
		t.Errorf("another root: %v", err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, "keys", "router-2.cert")); err != nil || bytes.Equal(now, expired) {
		t.Errorf("keys that expire are not renewed: %v", err)
	}
	again.lock.close()
	if _, err := open(dir, 19999, now); err == nil || !strings.Contains(err.Error(), "keeps them") {
		t.Errorf("other ports: %v", err)
	}
	moved := dir + "-moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if _, err := open(moved, 0, now); err == nil || !strings.Contains(err.Error(), "cannot be moved") {
		t.Errorf("moved: %v", err)
	}
}

// TestTrialPorts: ports that somebody listens on are not taken.
func TestTrialPorts(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().(*net.TCPAddr).Port
	if _, err := freePorts(taken-2, 5); err == nil || !strings.Contains(err.Error(), "5 consecutive ports") {
		t.Errorf("%v", err)
	}
	for _, port := range []int{-1, 65530} {
		if _, err := freePorts(port, 20); err == nil {
			t.Errorf("port %d", port)
		}
	}
}

// TestTrialLines: what processes write comes in whole lines with their names, however it was cut.
func TestTrialLines(t *testing.T) {
	var out bytes.Buffer
	r := &trialRun{w: &out}
	a, b := &trialLines{r: r, name: "router-1"}, &trialLines{r: r, name: "gateway"}
	for _, w := range []struct {
		to   *trialLines
		text string
	}{{a, "one"}, {b, "two\nthree\nfo"}, {a, " and a half\n"}, {b, "ur\n"}} {
		if n, err := fmt.Fprint(w.to, w.text); n != len(w.text) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "gateway   | two\ngateway   | three\nrouter-1  | one and a half\ngateway   | four\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	out.Reset()
	_, _ = a.Write(bytes.Repeat([]byte("x"), 3*maxTrialLine)) // it never fails
	if len(a.part) >= maxTrialLine || out.Len() < maxTrialLine {
		t.Errorf("%d bytes are kept", len(a.part))
	}
}

// TestUntilEOF: a child ends with its parent's pipe, and with its own signals.
func TestUntilEOF(t *testing.T) {
	in, parent := io.Pipe()
	ctx := UntilEOF(t.Context(), in)
	if ctx.Err() != nil {
		t.Fatal("it ends at once")
	}
	parent.Close()
	<-ctx.Done()
	if context.Cause(ctx) == nil || !strings.Contains(context.Cause(ctx).Error(), "parent") {
		t.Errorf("%v", context.Cause(ctx))
	}
	in, parent = io.Pipe()
	defer parent.Close()
	self, cancel := context.WithCancel(t.Context())
	ctx = UntilEOF(self, in)
	cancel()
	<-ctx.Done()
}
