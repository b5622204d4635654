package wire

import (
	"bytes"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

func TestPreamble(t *testing.T) {
	for _, c := range []struct {
		in   string
		want error
	}{
		{"LC\x01\x00", nil}, {"LC\x01\x09", nil}, {"LC\x01\x00and more", nil},
		{"LC\x02\x00", ErrVersion}, {"LC\x00\x00", ErrVersion},
		{"", ErrPreamble}, {"LC\x01", ErrPreamble}, {"GET /", ErrPreamble}, {"\x16\x03\x01\x00", ErrPreamble}, {"lc\x01\x00", ErrPreamble},
	} {
		err := CheckPreamble([]byte(c.in))
		if c.want == nil && err != nil {
			t.Errorf("%q: %v", c.in, err)
		} else if c.want != nil {
			wantErr(t, c.in, err, c.want)
		}
	}
}

func TestFrame(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, MaxBody} {
		b := bytes.Repeat([]byte{7}, n)
		f := AppendFrame([]byte("x"), b)
		if got, ok := FrameLen(f[1:]); !ok || got != n || !bytes.Equal(f[1+LenSize:], b) {
			t.Fatalf("%d bytes: %d %v", n, got, ok)
		}
	}
	for _, short := range [][]byte{nil, {1}} {
		if _, ok := FrameLen(short); ok {
			t.Fatalf("length of %x", short)
		}
	}
	for name, f := range map[string]func(){
		"body":      func() { AppendFrame(nil, make([]byte, MaxBody+1)) },
		"plaintext": func() { NewSealer().AppendSealedFrame(nil, new([KeySize]byte), 0, make([]byte, MaxPlain+1)) },
		"ticket":    func() { AppendResume(nil, make([]byte, MaxTicket+1), make([]byte, resumeMessage)) },
		"message":   func() { AppendResume(nil, []byte{1}, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic above the limit", name)
				}
			}()
			f()
		}()
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		in, out time.Duration
	}{
		{0, 0}, {-time.Second, 0}, {1500 * time.Millisecond, 1500 * time.Millisecond}, {MaxHintRetry, MaxHintRetry},
		{time.Hour, MaxHintRetry}, {1 << 62, MaxHintRetry},
	} {
		f := AppendRefused(nil, stanza.ReasonDraining, c.in)
		b := body(t, f)
		if k, err := FrameKind(b); k != KindRefused || err != nil {
			t.Fatal(k, err)
		}
		if reason, after, err := ParseRefused(b); reason != stanza.ReasonDraining || after != c.out || err != nil {
			t.Errorf("%v: %v %v %v", c.in, reason, after, err)
		}
		for i := range b {
			_, _, err := ParseRefused(b[:i])
			wantErr(t, "cut", err, ErrHandshakeFrame)
		}
		_, _, err := ParseRefused(append(b, 0))
		wantErr(t, "longer", err, ErrHandshakeFrame)
	}
	if f := AppendRefused(nil, 6, 2500*time.Millisecond); !bytes.Equal(f, []byte{0, 7, 4, 0, 6, 0, 0, 9, 0xC4}) {
		t.Fatalf("%x", f)
	}
	_, _, err := ParseRefused([]byte{3, 0, 6, 0, 0, 0, 0})
	wantErr(t, "kind", err, ErrHandshakeFrame)
	if testing.AllocsPerRun(100, func() { buf = AppendRefused(buf[:0], 6, time.Second) }) != 0 {
		t.Error("AppendRefused allocates")
	}
}

var buf = make([]byte, 0, MaxBody+LenSize)

func TestKinds(t *testing.T) {
	for _, b := range [][]byte{nil, {0}, {5}, {0xFF, 1}} {
		_, err := FrameKind(b)
		wantErr(t, "kind", err, ErrKind)
	}
	for _, b := range [][]byte{nil, {1}, {3, 0}} {
		wantErr(t, "use-XX", ParseUseXX(b), ErrHandshakeFrame)
	}
	if f := AppendUseXX(nil); !bytes.Equal(f, []byte{0, 1, 3}) {
		t.Fatalf("%x", f)
	}
}

func TestResumeFrame(t *testing.T) {
	msg := bytes.Repeat([]byte{9}, resumeMessage)
	for _, n := range []int{1, MaxTicket} {
		f := AppendResume(nil, bytes.Repeat([]byte{5}, n), msg)
		ticket, m, err := ParseResume(body(t, f))
		if len(ticket) != n || !bytes.Equal(m, msg) || err != nil {
			t.Fatal(n, err)
		}
		if len(f)-LenSize > MaxEarlyBody {
			t.Fatalf("a resume frame of %d bytes", len(f))
		}
		for i := range body(t, f) {
			_, _, err := ParseResume(f[LenSize : LenSize+i])
			wantErr(t, "cut", err, ErrHandshakeFrame)
		}
	}
	for _, b := range [][]byte{
		append([]byte{2, 0, 0}, msg...), append([]byte{2, 0xFF, 0xFF}, msg...), append([]byte{1, 0, 1, 0}, msg...),
		append([]byte{2, 2, 1}, make([]byte, MaxTicket+1+resumeMessage)...),
	} {
		_, _, err := ParseResume(b)
		wantErr(t, "resume", err, ErrHandshakeFrame)
	}
}
