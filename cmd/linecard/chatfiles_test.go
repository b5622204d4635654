package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChatFiles: what people type about files, right and wrong, and what they read.
func TestChatFiles(t *testing.T) {
	s := startUp(t)
	dir := t.TempDir()
	flags := func(name string) []string {
		return []string{"--home", filepath.Join(dir, name), "--server", s.addr, "--as", name, "--root", s.root}
	}
	photo := filepath.Join(dir, "a photo\u202e.jpg")
	content := bytes.Repeat([]byte("picture"), 30_000)
	if err := os.WriteFile(photo, content, 0o600); err != nil {
		t.Fatal(err)
	}
	bob := startChat(t, flags("bob")...)
	bob.expect("Connected as bob")
	bob.typeLine("/file " + photo)
	bob.expect("To whom?")
	ann := startChat(t, append(flags("ann"), "--to", "bob")...)
	ann.expect("Connected as ann")
	for line, want := range map[string]string{
		"/file": "Which one? /file PATH", "/file " + dir: "not a regular file", "/file none": "no such file", "/save": "Which one? /save N", "/save 1": "Which one? /save N",
		"/files": "  none",
	} {
		ann.typeLine(line)
		ann.expect(want)
	}
	ann.typeLine("/file " + photo)
	ann.expect("sending a photo\ufffd.jpg (205.1 KiB) to bob")
	ann.expect("✓ stored  file a photo")
	bob.expect("ann: [file: a photo_.jpg, 205.1 KiB] /save 1")
	bob.typeLine("/files")
	bob.expect("1   a photo_.jpg, 205.1 KiB, from ann")
	bob.typeLine("/save 1 " + photo) // it is there: nothing is replaced
	bob.expect("file 1 cannot be saved")
	bob.typeLine("/save 1 " + dir)
	to := filepath.Join(dir, "a photo_.jpg")
	bob.expect("saved and verified: " + to)
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	bob.typeLine("/save 1")
	bob.typeLine("/quit")
	if code := <-bob.ended; code != 0 {
		t.Errorf("exit %d", code)
	}

	ann.typeLine("/file " + photo)
	ann.in.Close() // a pipe's end: what was asked for is done first
	if code := <-ann.ended; code != 0 {
		t.Errorf("exit %d", code)
	}
	code, out, errs := linecard(append([]string{"recv"}, flags("bob")...)...)
	lines := recvLines(t, out)
	if code != 0 || len(lines) != 1 || lines[0].File == nil || lines[0].File.Name != "a photo_.jpg" || lines[0].File.Path != "" {
		t.Fatalf("exit %d, %s %s", code, out, errs)
	}
	bob = startChat(t, flags("bob")...) // the home has what recv did not save
	bob.expect("1 received files are not saved yet")
	bob.typeLine("/save 1 " + filepath.Join(dir, "later"))
	bob.expect("saved and verified")
	bob.in.Close()
	if code := <-bob.ended; code != 0 || strings.Contains(bob.text.String(), "!") {
		t.Errorf("exit %d, %s", code, bob.text.String())
	}
}
