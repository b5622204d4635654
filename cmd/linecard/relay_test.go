package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRelayCommand: what is printed is an ICE server of this `up`, for hours.
func TestRelayCommand(t *testing.T) {
	s := startUp(t)
	code, out, errs := linecard("relay", "--home", filepath.Join(t.TempDir(), "eve"), "--server", s.addr, "--as", "eve", "--root", s.root)
	if code != 0 || strings.Count(out, "\n") != 1 {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	var got iceServer
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	expires, err := time.Parse(stampFormat, got.Expires)
	if err != nil || time.Until(expires) < time.Hour || got.Credential == "" {
		t.Errorf("got %+v, %v", got, err)
	}
	if before, account, ok := strings.Cut(got.Username, ":"); !ok || before == "" || account == "" {
		t.Errorf("the name is %q", got.Username)
	}
	if len(got.URLs) != 2 || !strings.HasPrefix(got.URLs[0], "turn:127.0.0.1:") || strings.Contains(out, `\u`) {
		t.Errorf("the URLs are %q", got.URLs)
	}
}
