package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"linecard.example/gateway/client"
)

// server is a whole system in this process, as linecard up runs it.
type server struct {
	addr, root, fingerprint string
}

// startUp runs the up command until the end of the test and reads from its greeting where it listens.
func startUp(t *testing.T) server {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := run(ctx, []string{"up", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--media", "127.0.0.1:0", "--relay", "127.0.0.1:0"}, Std{Out: w, Err: io.Discard})
		w.Close()
		ended <- code
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("up exits %d", code)
		}
	})
	s := server{root: filepath.Join(dir, "data", "root.pub")}
	lines := bufio.NewScanner(r)
	for s.fingerprint == "" && lines.Scan() {
		switch f := strings.Fields(lines.Text()); {
		case len(f) == 2 && f[0] == "clients":
			s.addr = f[1]
		case len(f) == 2 && f[0] == "root":
			s.fingerprint = f[1]
		}
	}
	go io.Copy(io.Discard, r)
	if s.addr == "" || s.fingerprint == "" {
		t.Fatal("up does not say where it listens")
	}
	return s
}

// linecard runs a command and returns its exit code and output.
func linecard(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, Std{In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// wantFailure runs a command that must fail with code and one line on standard error that contains text.
func wantFailure(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	got, out, errs := linecard(args...)
	if got != code || !strings.Contains(errs, text) || strings.Count(errs, "\n") != 1 || out != "" {
		t.Errorf("%s: exit %d, %q, %q; want %d and %q", args, got, out, errs, code, text)
	}
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	base := []string{"--home", filepath.Join(dir, "h"), "--server", "127.0.0.1:1", "--as", "ann"}
	for _, c := range []struct {
		text string
		args []string
	}{
		{"--to", append([]string{"send", "x"}, base...)},
		{"nothing to send", append([]string{"send", "--to", "bob"}, base...)},
		{"--count", append([]string{"send", "--to", "bob", "--count", "0", "x"}, base...)},
		{"--timeout", append([]string{"send", "--to", "bob", "--timeout", "0s", "x"}, base...)},
		{"nothing to send", append([]string{"send", "--to", "bob", ""}, base...)},
		{"not a name", append([]string{"send", "--to", "b b", "x"}, base...)},
		{"one at a time", append([]string{"send", "--to", "bob", "--count", "2", "--file", "x"}, base...)},
		{"--files", append([]string{"recv", "--files", filepath.Join(dir, "none")}, base...)},
		{"not a name", []string{"recv", "--home", dir, "--server", "127.0.0.1:1", "--as", "Ann!"}},
		{"HOST:PORT", []string{"recv", "--home", dir, "--server", "localhost", "--as", "ann"}},
		{"together", append([]string{"recv", "--root", "f", "--trust-first-use"}, base...)},
		{"--timeout", append([]string{"relay", "--timeout", "0s"}, base...)},
		{"--count", append([]string{"recv", "--count", "-1"}, base...)},
		{"not a name", append([]string{"chat", "--to", "#"}, base...)},
		{"--home", []string{"chat", "--server", "127.0.0.1:1", "--as", "ann"}},
	} {
		wantFailure(t, 2, c.text, c.args...)
	}
	wantFailure(t, 1, "none", append([]string{"recv", "--root", filepath.Join(dir, "none")}, base...)...)
	wantFailure(t, 1, "refused", append([]string{"recv", "--trust-first-use", "--timeout", "2s"}, base...)...)
}

func sendLines(t *testing.T, out string) (ids []uint64) {
	t.Helper()
	for line := range strings.Lines(out) {
		var l sendLine
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.State != "acked" || l.ID == 0 {
			t.Fatalf("%q: %v", line, err)
		}
		ids = append(ids, l.ID)
	}
	return ids
}

func recvLines(t *testing.T, out string) (lines []recvLine) {
	t.Helper()
	for line := range strings.Lines(out) {
		var l recvLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if at, err := time.Parse(time.RFC3339Nano, l.SentAt); err != nil || len(l.SentAt) != len("2006-01-02T15:04:05.000Z") || time.Since(at).Abs() > time.Hour {
			t.Fatalf("sent_at %q: %v", l.SentAt, err)
		}
		lines = append(lines, l)
	}
	return lines
}

func TestSendAndRecv(t *testing.T) {
	s := startUp(t)
	dir := t.TempDir()
	as := func(cmd, name string, more ...string) []string {
		return append([]string{cmd, "--home", filepath.Join(dir, name), "--server", s.addr, "--as", name}, more...)
	}
	wantFailure(t, 1, s.fingerprint, as("recv", "bob")...)
	wantFailure(t, 1, "0 of 1", as("recv", "bob", "--root", s.root, "--timeout", "2s")...) // registers
	code, out, errs := linecard(as("send", "ann", "--to", "Bob", "--trust-first-use", "--count", "3", "hello {n}")...)
	if code != 0 || len(sendLines(t, out)) != 3 {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	ids := sendLines(t, out)
	code, out, errs = linecard(as("recv", "bob", "--count", "2")...)
	if code != 0 || errs != "" {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	for i, l := range recvLines(t, out) {
		if l.From != "ann" || l.ID != ids[i] || l.Text != fmt.Sprintf("hello %d", i+1) || l.Unverified || l.Unreadable || l.To != "" {
			t.Errorf("line %d: %+v", i, l)
		}
	}
	code, out, _ = linecard(as("recv", "bob", "--count", "2", "--timeout", "2s")...)
	if l := recvLines(t, out); code != 1 || len(l) != 1 || l[0].Text != "hello 3" {
		t.Fatalf("exit %d, %q", code, out)
	}
	wantFailure(t, 1, "unknown name", as("send", "ann", "--to", "nobody", "x")...)
	wantFailure(t, 1, "ann's", "send", "--home", filepath.Join(dir, "ann"), "--server", s.addr, "--as", "carol", "--to", "bob", "x")
	wantFailure(t, 1, "taken", "recv", "--home", filepath.Join(dir, "other"), "--server", s.addr, "--as", "ann", "--root", s.root)
	home, err := client.OpenHome(filepath.Join(dir, "ann"))
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, 1, "home in use", as("send", "ann", "--to", "bob", "x")...)
	if err := home.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRecvPrintsBeforeItAcks: a line that could not be printed is printed by the next recv.
func TestRecvPrintsBeforeItAcks(t *testing.T) {
	s := startUp(t)
	dir := t.TempDir()
	flags := func(cmd, name string) []string {
		return []string{cmd, "--home", filepath.Join(dir, name), "--server", s.addr, "--as", name, "--root", s.root}
	}
	if code, _, errs := linecard(append(flags("recv", "bob"), "--count", "0")...); code != 0 {
		t.Fatal(errs)
	}
	if code, _, errs := linecard(append(flags("send", "ann"), "--to", "bob", "x")...); code != 0 {
		t.Fatal(errs)
	}
	var errs bytes.Buffer
	if code := run(context.Background(), flags("recv", "bob"), Std{Out: brokenPipe{}, Err: &errs}); code != 1 || !strings.Contains(errs.String(), "broken") {
		t.Fatalf("exit %d, %q", code, errs.String())
	}
	code, out, _ := linecard(flags("recv", "bob")...)
	if l := recvLines(t, out); code != 0 || len(l) != 1 || l[0].Text != "x" {
		t.Fatalf("exit %d, %q", code, out)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// console is a chat over pipes.
type console struct {
	t     *testing.T
	in    *io.PipeWriter
	mu    sync.Mutex
	text  strings.Builder
	more  chan struct{}
	ended chan int
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(b)
	select {
	case c.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

func startChat(t *testing.T, args ...string) *console {
	r, w := io.Pipe()
	c := &console{t: t, in: w, more: make(chan struct{}, 1), ended: make(chan int, 1)}
	go func() {
		c.ended <- run(context.Background(), append([]string{"chat"}, args...), Std{In: r, Out: c, Err: c})
	}()
	return c
}

func (c *console) typeLine(line string) { io.WriteString(c.in, line+"\n") }

// expect waits until text was printed.
func (c *console) expect(text string) {
	c.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		c.mu.Lock()
		all := c.text.String()
		c.mu.Unlock()
		if strings.Contains(all, text) {
			return
		}
		select {
		case <-c.more:
		case <-limit:
			c.t.Fatalf("no %q in:\n%s", text, all)
		}
	}
}

func TestChat(t *testing.T) {
	s := startUp(t)
	dir := t.TempDir()
	flags := func(name string) []string {
		return []string{"--home", filepath.Join(dir, name), "--server", s.addr, "--as", name, "--root", s.root}
	}
	ann := startChat(t, append(flags("ann"), "--to", "bob")...)
	ann.expect("NOT end-to-end encrypted")
	ann.expect("Connected as ann")
	ann.typeLine("too early")
	ann.expect("bob is not registered; not sent: too early")
	bob := startChat(t, flags("bob")...)
	bob.expect("Connected as bob")
	bob.typeLine("to whom?")
	bob.expect("Choose with /to NAME")
	ann.typeLine("hello \x1b[31mbob")
	ann.expect("✓ stored  hello")
	bob.expect("] ann: hello \ufffd[31mbob")
	ann.expect("✓✓ read  hello")
	bob.expect("Answers go to ann now")
	bob.typeLine("hi ann")
	ann.expect("] bob: hi ann")
	ann.typeLine("/who")
	ann.expect(s.fingerprint)
	ann.expect("you are writing to")
	ann.typeLine("/help")
	ann.expect("/quit")
	ann.typeLine("/dance")
	ann.expect("/dance is not a command")
	ann.typeLine("/to nobody")
	ann.expect("Writing to nobody.")
	ann.typeLine("x")
	ann.expect("nobody is not registered")
	ann.typeLine("/to b o b")
	ann.expect("not a name")
	ann.typeLine("/quit")
	if code := <-ann.ended; code != 0 {
		t.Errorf("/quit exits %d", code)
	}
	bob.typeLine("are you there?")
	bob.in.Close() // the end of a pipe: what was typed is stored first
	if code := <-bob.ended; code != 0 {
		t.Errorf("the end of the input exits %d", code)
	}
	bob.expect("✓ stored  are you there?")
	code, out, _ := linecard(append([]string{"recv"}, flags("ann")...)...)
	if l := recvLines(t, out); code != 0 || l[0].Text != "are you there?" {
		t.Errorf("exit %d, %q", code, out)
	}
}

// TestChatQuit: a line that is typed right before /quit goes into the home, or it is said that it does not.
func TestChatQuit(t *testing.T) {
	s := startUp(t)
	dir := t.TempDir()
	if code, _, errs := linecard("recv", "--home", filepath.Join(dir, "bob"), "--server", s.addr, "--as", "bob", "--root", s.root, "--count", "0"); code != 0 {
		t.Fatal(errs)
	}
	chat := func(server string) (int, string) {
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"chat", "--home", filepath.Join(dir, "ann"), "--server", server, "--as", "ann", "--to", "bob", "--root", s.root},
			Std{In: strings.NewReader("hello\n/quit\n"), Out: &out, Err: &errs})
		return code, errs.String()
	}
	if code, errs := chat("127.0.0.1:1"); code != 1 || !strings.Contains(errs, "1 typed lines were not taken") {
		t.Errorf("without a server: %d %q", code, errs)
	}
	if code, errs := chat(s.addr); code != 0 {
		t.Fatalf("%d %q", code, errs)
	}
	if code, out, errs := linecard("send", "--home", filepath.Join(dir, "ann"), "--server", s.addr, "--as", "ann", "--to", "bob", "later"); code != 0 {
		t.Fatal(out, errs)
	}
	code, out, errs := linecard("recv", "--home", filepath.Join(dir, "bob"), "--server", s.addr, "--as", "bob", "--count", "2")
	if lines := recvLines(t, out); code != 0 || lines[0].Text != "hello" || lines[1].Text != "later" {
		t.Fatalf("%d %s %s", code, out, errs)
	}
}
