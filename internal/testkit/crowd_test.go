package testkit

import (
	"encoding/binary"
	"strings"
	"testing"

	"linecard.example/internal/stanza"
)

// TestCrowd: a crowd makes progress beside whatever is done, through a pause of the server too, and everything arrives.
func TestCrowd(t *testing.T) {
	s := Start(t, Inside, Settings{Gateway: crowd})
	c := s.NewCrowd(CrowdOptions{Sessions: 10, Skip: func(handle string) bool { return handle == "crowd3" }})
	if c.members[3].Handle != "crowd4" {
		t.Errorf("the fourth is %s", c.members[3].Handle)
	}
	ran := false
	c.Beside(func() { ran = true; c.Turn() })
	if n := c.Finish(); !ran || n < 2*10 {
		t.Errorf("%d messages in two turns of 10", n)
	}
}

// TestCrowdCatches shows that a crowd notices what must not happen to it.
func TestCrowdCatches(t *testing.T) {
	message := func(from stanza.Account, n uint64) []byte {
		m := stanza.MessageDown{ID: firstID + n, From: from, FromDevice: 1, SentAt: 1, Body: binary.BigEndian.AppendUint64(nil, n)}
		return m.Append(nil)
	}
	for _, c := range []struct {
		name string
		up   [][]byte
		want string
	}{
		{"in turn", [][]byte{message(2, 1), message(2, 2)}, ""},
		{"lost", [][]byte{message(2, 1), message(2, 3)}, "message 3 of peer after 1"},
		{"doubled", [][]byte{message(2, 1), message(2, 1)}, "message 1 of peer after 1"},
		{"of somebody else", [][]byte{message(3, 1)}, "a message of account 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &member{crowd: &Crowd{t: t}, Lean: &Lean{Handle: "self"}}
			m.peer = &member{Lean: &Lean{Bound: stanza.Bound{Account: 2}, Handle: "peer"}}
			said := ""
			for _, raw := range c.up {
				v, _, err := stanza.Decode(raw)
				must(t, err)
				if err := m.received(v); err != nil {
					said = err.Error()
				}
			}
			if !strings.HasPrefix(said, c.want) || (c.want == "") != (said == "") {
				t.Errorf("said %q, want %q", said, c.want)
			}
		})
	}
	t.Run("closed", func(t *testing.T) {
		s := Start(t, Inside, Settings{})
		c := s.NewCrowd(CrowdOptions{Sessions: 2})
		s.StopInside()
		Eventually(t, "the crowd notices", c.broken)
		if err := c.faults[0].Error(); !strings.Contains(err, "draining") {
			t.Error("noticed ", err)
		}
		c.end()
	})
}
