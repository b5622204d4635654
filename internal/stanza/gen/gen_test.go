package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The committed files are what the lists give; a stale one would pass every test that uses its own numbers.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	dir := ".."
	tokens, reasons, err := generate(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"tokens_gen.go": tokens, "reasons_gen.go": reasons} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run make generate", name)
		}
	}
}

func TestRunWritesTheSameEachTime(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"tokens.txt", "reasons.txt"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var before []byte
	for range 3 {
		if err := run(dir); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "tokens_gen.go"))
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && !bytes.Equal(before, got) {
			t.Fatal("two runs differ")
		}
		before = got
	}
}

func TestTokenFaults(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no minor":           {"", "no minor version"},
		"token before minor": {"tag 1 a\n", "before the first minor"},
		"minor skipped":      {"# minor 0\n# minor 2\n", "minor version"},
		"minor not 0":        {"# minor 1\n", "minor version"},
		"short line":         {"# minor 0\ntag 1\n", "want kind, number, name"},
		"unknown kind":       {"# minor 0\nword 1 a\n", "unknown kind"},
		"number 0":           {"# minor 0\ntag 0 a\n", "not 1..127"},
		"tag 128":            {"# minor 0\ntag 128 a\n", "not 1..127"},
		"attr 63":            {"# minor 0\nattr 63 a varint\n", "not 1..62"},
		"no number":          {"# minor 0\nop x a\n", "not 1..255"},
		"number twice":       {"# minor 0\ntag 1 a\ntag 1 b\n", "does not follow"},
		"number reused":      {"# minor 0\ntag 2 a\n# minor 1\ntag 1 b\n", "does not follow"},
		"name twice":         {"# minor 0\ntag 1 a\ntag 2 a\n", "used before"},
		"bad name":           {"# minor 0\ntag 1 A-b\n", "bad name"},
		"no wire type":       {"# minor 0\nattr 1 a\n", "no wire type"},
		"bad wire type":      {"# minor 0\nattr 1 a float\n", "no wire type"},
	} {
		if _, err := parseTokens(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestReasonFaults(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"short line":     {"1 a close", "want number"},
		"no number":      {"x a close never", "bad number"},
		"number skipped": {"1 a close never\n3 b close never", "want 2"},
		"name twice":     {"1 a close never\n2 a close never", "used before"},
		"bad name":       {"1 A close never", "bad name"},
		"bad where":      {"1 a close+open never", "where is"},
		"bad retry":      {"1 a close often", "retry is"},
	} {
		if _, err := parseReasons(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Explaining a token better is no wire change; anything else about it is.
func TestHashCoversTheWireOnly(t *testing.T) {
	hash := func(text string) string {
		l, err := parseTokens(text)
		if err != nil {
			t.Fatal(err)
		}
		return l.minors[0]
	}
	base := hash("# minor 0\nattr 1 id varint a comment\n")
	if hash("# minor 0\n\n# more\nattr 1   id varint another\n") != base {
		t.Error("a comment changes the hash")
	}
	if hash("# minor 0\nattr 1 id varint\n# minor 1\nattr 2 x bytes\n") != base {
		t.Error("a later minor version changes the hash of an earlier one")
	}
	for _, text := range []string{"attr 2 id varint", "attr 1 ids varint", "attr 1 id bytes", "attr 1 id varint\ntag 1 a"} {
		if hash("# minor 0\n"+text+"\n") == base {
			t.Errorf("%q has the same hash", text)
		}
	}
}
