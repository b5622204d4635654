package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLongConfig(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"check -config f", "check --config f"},
		{"check -config=f --role up", "check --config=f --role up"},
		{"gateway --config f", "gateway --config f"},
		{"send -config f", "send -config f"}, // has no such flag: the parser says so
	} {
		if got := longConfig(strings.Fields(c.in)); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s became %q", c.in, got)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, c := range []struct{ args, want string }{{"--help", "keys issue"}, {"up --help", "--data"}, {"version", "linecard "}} {
		if code, out, errs := linecard(strings.Fields(c.args)...); code != 0 || errs != "" || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit %d, %q, %q", c.args, code, out, errs)
		}
	}
}

// TestUpPrecedence: flags win over the file, the file over the defaults.
func TestUpPrecedence(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "c.toml")
	text := fmt.Sprintf("cluster = \"prod\"\nshards = 1\ndata = %q\n[admin]\nlisten = \"127.0.0.1:0\"\n[gateway]\nlisten = \"127.0.0.2:0\"\n", filepath.Join(dir, "file"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		data   string
		listen string
		flags  []string
	}{
		{"file", "127.0.0.2:", nil},
		{"flag", "127.0.0.1:", []string{"--data", filepath.Join(dir, "flag"), "--listen", "127.0.0.1:0"}},
	} {
		greeting := upGreeting(t, append([]string{"up", "-config", config}, c.flags...))
		if !strings.Contains(greeting, "clients   "+c.listen) || !strings.Contains(greeting, filepath.Join(dir, c.data, "root.pub")) {
			t.Errorf("%q:\n%s", c.flags, greeting)
		}
		if line, err := os.ReadFile(filepath.Join(dir, c.data, "root.pub")); err != nil || !strings.HasPrefix(string(line), "linecard-root prod ") {
			t.Errorf("%q: root.pub %q %v", c.flags, line, err)
		}
	}
}

// upGreeting runs the up command until it has greeted.
func upGreeting(t *testing.T, args []string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	var errs bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		code := run(ctx, args, Std{Out: w, Err: &errs})
		w.Close()
		ended <- code
	}()
	var greeting strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(&greeting, lines.Text())
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			cancel()
		}
	}
	if code := <-ended; code != 0 {
		t.Fatalf("%q: exit %d, %s", args, code, errs.String())
	}
	return greeting.String()
}
