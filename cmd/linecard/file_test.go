package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"linecard.example/gateway/client/media"
)

// terminal understands what screen writes.
type terminal struct {
	rows      [][]rune
	row, col  int
	savedR    int
	savedC    int
	undefined string // the first thing that it did not understand
}

func (t *terminal) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		n := 0
		for _, known := range []struct {
			code string
			do   func()
		}{
			{"\x1b[K", func() { t.rows[t.row] = t.rows[t.row][:min(t.col, len(t.rows[t.row]))] }},
			{"\x1b[A", func() { t.row = max(t.row-1, 0) }},
			{"\x1b[B", func() { t.row = min(t.row+1, len(t.rows)-1) }},
			{"\x1b7", func() { t.savedR, t.savedC = t.row, t.col }},
			{"\x1b8", func() { t.row, t.col = t.savedR, t.savedC }},
			{"\r", func() { t.col = 0 }},
			{"\n", func() { t.row, t.col = t.row+1, 0 }},
		} {
			for len(t.rows) <= t.row {
				t.rows = append(t.rows, nil)
			}
			if strings.HasPrefix(text, known.code) {
				known.do()
				n = len(known.code)
				break
			}
		}
		if n == 0 {
			r := []rune(text)[0]
			if r < ' ' && t.undefined == "" {
				t.undefined = text
			}
			t.put(r)
			n = len(string(r))
		}
		text = text[n:]
	}
	return len(p), nil
}

func (t *terminal) put(r rune) {
	line := t.rows[t.row]
	for len(line) <= t.col {
		line = append(line, ' ')
	}
	line[t.col] = r
	t.rows[t.row] = line
	t.col++
}

func (t *terminal) lines() (lines []string) {
	for _, r := range t.rows {
		lines = append(lines, strings.TrimRight(string(r), " "))
	}
	return slices.DeleteFunc(lines, func(s string) bool { return s == "" })
}

// TestScreenKeepsBarsAbovePrompt: messages scroll by, bars and prompt stay, and what is being typed with them.
func TestScreenKeepsBarsAbovePrompt(t *testing.T) {
	term := &terminal{}
	s := &screen{out: term, tty: true, width: 80}
	want := func(when string, lines ...string) {
		t.Helper()
		if got := term.lines(); !slices.Equal(got, lines) || term.undefined != "" {
			t.Errorf("%s: %q, want %q; not understood: %q", when, got, lines, term.undefined)
		}
	}
	s.say("hello")
	s.prompt("bob")
	want("prompt", "hello", "to bob>")
	s.status([]string{"file 10%"})
	s.prompt("bob")
	want("bar", "hello", "file 10%", "to bob>")
	term.Write([]byte("typed"))
	s.status([]string{"file 100%"})
	s.status([]string{"file 20%"})
	s.prompt("bob")
	want("bar moved", "hello", "file 20%", "to bob> typed")
	s.say("news")
	s.prompt("bob")
	want("a message", "hello", "news", "file 20%", "to bob>")
	s.status([]string{"file 30%", "other 1%"})
	s.prompt("bob")
	s.status([]string{"file 31%", "other 2%"})
	want("two bars", "hello", "news", "file 31%", "other 2%", "to bob>")
	term.Write([]byte("text\n"))
	s.entered()
	s.prompt("bob")
	want("entered", "hello", "news", "file 31%", "other 2%", "to bob> text", "file 31%", "other 2%", "to bob>")
	s.status(nil)
	s.prompt("bob")
	want("done", "hello", "news", "file 31%", "other 2%", "to bob> text", "to bob>")

	var pipe bytes.Buffer
	s = &screen{out: &pipe, width: 80}
	s.status([]string{"file 10%"})
	s.prompt("bob")
	s.say("hello")
	if pipe.String() != "hello\n" {
		t.Errorf("a pipe gets %q", pipe.String())
	}
}

func TestProgressLine(t *testing.T) {
	p := newProgress("sending " + strings.Repeat("long", 30))
	if got := p.line(80); got != "" {
		t.Errorf("before anything moved: %q", got)
	}
	for _, c := range []struct {
		done int64
		want string
	}{{0, "0%"}, {5 << 20, "50%"}, {2 << 20, "20%"}, {10 << 20, "100%"}} {
		p.note(c.done, 10<<20)
		got := p.line(200)
		if c.done != 2<<20 && !strings.Contains(got, c.want) || strings.ContainsAny(got, "\r\n\x1b") || !strings.HasPrefix(got, "sending long") {
			t.Errorf("%d: %q", c.done, got)
		}
		if got := p.line(20); len([]rune(got)) > 20 {
			t.Errorf("wider than its line: %q", got)
		}
	}
}

func TestReceivedFilesGetFreeNames(t *testing.T) {
	dir := t.TempDir()
	p := &media.Pointer{Name: "../photo.jpg"}
	for _, want := range []string{"photo.jpg", "photo (2).jpg", "photo (3).jpg"} {
		got, err := freeName(dir, p)
		if err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
		if err := os.WriteFile(got, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := destination(dir, &media.Pointer{Name: "a"}); err != nil || got != filepath.Join(dir, "a") {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := destination(filepath.Join(dir, "other"), p); err != nil || got != filepath.Join(dir, "other") {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := destination("", &media.Pointer{Name: "nobody-has-this"}); err != nil || got != "nobody-has-this" {
		t.Errorf("%s, %v", got, err)
	}
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1.0 KiB", 20 << 20: "20.0 MiB", 3 << 29: "1.5 GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
