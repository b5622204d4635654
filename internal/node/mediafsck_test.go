package node

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linecard.example/mediad"
)

// TestFsckMedia checks the directory of a mediad that was stopped, then one with something strange in it.
func TestFsckMedia(t *testing.T) {
	data := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := mediad.New(DefaultConfig().Media, mediad.Deps{Dir: filepath.Join(data, string(Media)), Listener: ln})
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := s.Run(ended); err != nil {
		t.Fatal(err)
	}
	run := func(repair bool) (string, error) {
		var out bytes.Buffer
		err := FsckMedia(t.Context(), &out, data, "", repair)
		return out.String(), err
	}
	if out, err := run(false); err != nil || !strings.HasSuffix(out, ": ok\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(data, string(Media), "refs", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(false); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "--repair") {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := run(true); err != nil || !strings.Contains(out, "repaired: ") {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := FsckMedia(t.Context(), &bytes.Buffer{}, data, filepath.Join(data, "none.toml"), false); err == nil {
		t.Fatal("a configuration that is not there")
	}
}
