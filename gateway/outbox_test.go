package gateway

import (
	"bytes"
	"slices"
	"testing"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// TestFrames: stanzas are packed into frames that a slow client can finish, larger only for a single stanza, and nothing is lost or cut.
func TestFrames(t *testing.T) {
	message := func(size int) []byte {
		m := stanza.MessageDown{ID: 1, From: 2, FromDevice: 1, Body: make([]byte, size)}
		return m.Append(nil)
	}
	for _, c := range []struct {
		name   string
		sizes  []int // of bodies
		frames []int // stanzas in each
	}{
		{"one", []int{80}, []int{1}},
		{"small ones together", []int{80, 80, 80}, []int{3}},
		{"filled", []int{8000, 8000, 8000}, []int{2, 1}},
		{"a large one alone", []int{80, 60000, 80}, []int{1, 1, 1}},
		{"large ones", []int{60000, 60000}, []int{1, 1}},
		{"too many", make([]int, stanza.MaxStanzas+1), []int{stanza.MaxStanzas, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b outbox
			var want []byte
			for _, size := range c.sizes {
				m := message(size)
				b.add(m)
				want = append(want, m...)
			}
			var frames []int
			var got []byte
			start := 0
			for _, end := range append(b.cuts, len(b.plain)) {
				frame, n := b.plain[start:end], 0
				if err := stanza.DecodeFrame(frame, func(v stanza.View) error { n++; got = append(got, v.Raw()...); return nil }); err != nil {
					t.Fatal(err)
				}
				if len(frame) > wire.MaxPlain || (n > 1 && len(frame) > frameFill+1) {
					t.Errorf("a frame of %d stanzas has %d bytes", n, len(frame))
				}
				frames, start = append(frames, n), end
			}
			if !bytes.Equal(got, want) {
				t.Error("other stanzas came out")
			}
			if !slices.Equal(frames, c.frames) {
				t.Errorf("stanzas in frames %v, want %v", frames, c.frames)
			}
		})
	}
}
