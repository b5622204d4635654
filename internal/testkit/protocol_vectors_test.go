package testkit

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"linecard.example/internal/stanza"
)

const (
	vectorFile  = "../wire/testdata/session.txt"
	vectorBegin = "<!-- from internal/wire/testdata/session.txt: go test ./internal/testkit -run ProtocolVectors -update-protocol -->\n"
	vectorEnd   = "<!-- end of what that command writes -->\n"
)

var updateProtocol = flag.Bool("update-protocol", false, "write the vectors of docs/protocol.md anew")

func readVectors(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// vectorOf returns the hex of the first line with this label.
func vectorOf(t *testing.T, label string) string {
	t.Helper()
	for line := range strings.Lines(readVectors(t)) {
		if text, ok := strings.CutPrefix(line, label+" "); ok {
			return strings.TrimSpace(text)
		}
	}
	t.Fatalf("no vector %s", label)
	return ""
}

// TestProtocolVectors: the page quotes every line of the vector, and takes every plaintext apart, byte by byte.
func TestProtocolVectors(t *testing.T) {
	page, file := readPage(t), readVectors(t)
	head, rest, ok := strings.Cut(page, vectorBegin)
	old, tail, ok2 := strings.Cut(rest, vectorEnd)
	if !ok || !ok2 {
		t.Fatal("the marks around the vectors are gone")
	}
	want := vectorSection(t, file)
	if *updateProtocol {
		page = head + vectorBegin + want + vectorEnd + tail
		if err := os.WriteFile(protocolPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if old != want {
		t.Error("the vectors changed: run with -update-protocol and look at what is said about them")
	}
	var lines []string
	for line := range strings.Lines(file) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	quoted := fenced(page, "vector")
	if len(lines) != len(quoted) {
		t.Fatalf("the page quotes %d lines of %d", len(quoted), len(lines))
	}
	for i, line := range lines {
		if quoted[i] != line {
			t.Errorf("quoted:  %s\nvector: %s", quoted[i], line)
		}
	}
}

// vectorSection writes the vectors as the page has them: comments as text, lines as they are, stanzas taken apart.
func vectorSection(t *testing.T, file string) string {
	var out strings.Builder
	block := "" // language of the open code block
	open := func(language string) {
		if block == language {
			return
		}
		if block != "" {
			out.WriteString("```\n\n")
		}
		if block = language; block != "" {
			out.WriteString("```" + language + "\n")
		}
	}
	text := false
	for line := range strings.Lines(file) {
		line = strings.TrimSuffix(line, "\n")
		comment, isComment := strings.CutPrefix(line, "# ")
		if text && !isComment {
			out.WriteString("\n")
		}
		text = isComment
		switch {
		case isComment:
			open("")
			if strings.HasPrefix(comment, "Session ") {
				title, rest, _ := strings.Cut(comment, ": ")
				out.WriteString("### " + title + "\n\n")
				comment = strings.ToUpper(rest[:1]) + rest[1:]
			}
			out.WriteString(comment + "\n")
		case line != "":
			label, digits, _ := strings.Cut(line, " ")
			b, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatalf("%s: %v", label, err)
			}
			open("vector")
			out.WriteString(line + "\n")
			if plain := strings.HasSuffix(label, "_plain"); plain || label == "register" || label == "bind" {
				open("stanzas")
				out.WriteString(dissect(t, b, plain, strings.HasPrefix(label, "up")))
			}
		}
	}
	open("")
	return out.String()
}

// dissection takes stanzas apart into lines of some bytes each, with what they say. It is a decoder of its own, written from the page, and
// fails the test on what it does not understand.
type dissection struct {
	t   *testing.T
	b   []byte
	out strings.Builder
}

func dissect(t *testing.T, b []byte, plain, up bool) string {
	d := &dissection{t: t, b: b}
	if plain {
		d.say(1, "flags")
	}
	for len(d.b) > 0 {
		d.stanza(up)
	}
	return d.out.String()
}

// say writes a line about the next n bytes and takes them.
func (d *dissection) say(n int, format string, args ...any) {
	d.out.WriteString(strings.TrimRight(fmt.Sprintf("%-24x  %s", d.b[:n], fmt.Sprintf(format, args...)), " ") + "\n")
	d.b = d.b[n:]
}

// uvarint decodes the number at offset at; n is its length.
func (d *dissection) uvarint(at int) (v uint64, n int) {
	for shift := 0; ; shift += 7 {
		c := d.b[at+n]
		v |= uint64(c&0x7f) << shift
		n++
		if c < 0x80 {
			return v, n
		}
	}
}

func (d *dissection) stanza(up bool) {
	raw, tag := d.b[0]&0x80 != 0, stanza.Tag(d.b[0]&0x7f)
	length, n := d.uvarint(1)
	what := ""
	if raw {
		what = ", raw"
	}
	left := len(d.b) - 1 - n - int(length)
	d.say(1+n, "%s%s: %d bytes", tag, what, length)
	for !raw && len(d.b) > left && d.b[0] != 0xff {
		d.attribute(left)
	}
	if len(d.b) > left && !raw {
		d.say(1, "body: %d bytes", len(d.b)-left-1)
	}
	d.body(tag, up, left)
}

func (d *dissection) attribute(left int) {
	a, wire := stanza.Attr(d.b[0]>>2), d.b[0]&3
	v, n := d.uvarint(1)
	switch {
	case wire == 0 && a == stanza.AttrReason:
		d.say(1+n, "  %s = %d, %s", a, v, stanza.Reason(v))
	case wire == 0 && a == stanza.AttrOp:
		d.say(1+n, "  %s = %d, %s", a, v, stanza.Op(v))
	case wire == 0 && a == stanza.AttrAfter:
		d.say(1+n, "  %s = id - %d", a, v)
	case wire == 0:
		d.say(1+n, "  %s = %d", a, v)
	case wire == 1 && (a == stanza.AttrIDs || a == stanza.AttrFull):
		var ids []uint64
		for it := stanza.Packed(d.b[1+n : 1+n+int(v)]); ; {
			id, ok := it.Next()
			if !ok {
				break
			}
			ids = append(ids, id)
		}
		d.say(1+n+int(v), "  %s = %d", a, ids)
	case wire == 1 && (a == stanza.AttrKey || a == stanza.AttrGrant):
		d.say(1+n, "  %s: %d bytes", a, v)
		d.say(int(v), "")
	case wire == 1:
		d.say(1+n+int(v), "  %s = %q", a, d.b[1+n:1+n+int(v)])
	case wire == 3:
		d.say(1+n, "  %s: %d bytes", a, v)
		for end := len(d.b) - int(v); len(d.b) > end; {
			size, n := d.uvarint(0)
			d.say(n, "  record: %d bytes", size)
			for stop := len(d.b) - int(size); len(d.b) > stop; {
				d.attribute(stop)
			}
		}
	}
	if len(d.b) < left {
		d.t.Fatalf("%s goes beyond its stanza", a)
	}
}

func (d *dissection) body(tag stanza.Tag, up bool, left int) {
	for len(d.b) > left {
		v, n := d.uvarint(0)
		size := len(d.b) - left
		switch {
		case tag == stanza.TagDeliveryAck:
			d.say(n, "  %d further deliveries are handled", v)
		case tag == stanza.TagMessage && up:
			length, m := d.uvarint(n)
			d.say(n+m, "  device %d: %d bytes", v, length)
			d.say(int(length), "  %q", d.b[:length])
		case tag == stanza.TagMessage:
			d.say(size, "  %q", d.b[:size])
		default:
			d.say(size, "  zstd")
		}
	}
}
