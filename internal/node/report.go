package node

import (
	"encoding/json"
	"slices"

	"linecard.example/internal/link"
	"linecard.example/internal/metrics"
	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// memberReport is what a member tells operators about itself. It travels as JSON between binaries of different versions: fields are only added,
// and what one does not know is ignored. Nobody but operators' commands reads it.
type memberReport struct {
	Version  string        `json:"version"`
	Revision string        `json:"revision"`
	Holds    int           `json:"holds"`              // groups that are open here
	Stopped  []string      `json:"stopped,omitempty"`  // those of them that damage has stopped
	Warnings []string      `json:"warnings,omitempty"` // what keeps it from following the roster
	Led      []groupReport `json:"led,omitempty"`
}

// groupReport is what the leader of a group knows of its replicas. 1,024 of them fit an envelope.
type groupReport struct {
	Group   stanza.Group `json:"g"`
	Term    uint64       `json:"t"`
	Voters  int          `json:"v"`           // the roster wants, and that vote
	Answer  int          `json:"a"`           // of those: how many answer
	Near    int          `json:"n"`           // of those: how many lack little
	Lag     uint64       `json:"l,omitempty"` // entries that the one that is furthest behind lacks
	Leaving int          `json:"x,omitempty"` // replicas that the roster wants elsewhere
	Waits   string       `json:"w,omitempty"` // what the leader waits for to change that
}

// maxWaits bounds how many groups of a report say what they wait for, and how many warnings there are; maxWaitText how long each is.
const (
	maxWaits    = 64
	maxWaitText = 200
)

// tellOperators answers operators from now on. The daemons are open.
func (n *Node) tellOperators() {
	c := n.cluster
	if c == nil || c.host == nil {
		return
	}
	c.board.Tell(func() []byte {
		m := newReport(c.board.Current(), c.host.Status())
		for _, f := range c.warnings() {
			if len(m.Warnings) < maxWaits {
				m.Warnings = append(m.Warnings, brief(f.Name+": "+f.Why))
			}
		}
		b, err := json.Marshal(m)
		if err != nil || len(b) > link.MaxPayload {
			return nil // an operator then sees a member that does not say
		}
		return b
	})
}

// newReport returns what a member says whose groups are such.
func newReport(r *roster.Roster, groups []shard.GroupStatus) memberReport {
	var m memberReport
	m.Version, m.Revision = metrics.Build()
	waits := 0
	for i := range groups {
		s := &groups[i]
		m.Holds++
		if s.Stopped != "" {
			m.Stopped = append(m.Stopped, s.Group.String())
		}
		if !s.Leading {
			continue
		}
		g := reportGroup(r, s)
		if s.Waits != "" && waits < maxWaits {
			waits++
			g.Waits = brief(s.Waits)
		}
		m.Led = append(m.Led, g)
	}
	return m
}

func brief(s string) string { return s[:min(len(s), maxWaitText)] }

func reportGroup(r *roster.Roster, s *shard.GroupStatus) groupReport {
	g := groupReport{Group: s.Group, Term: s.Term}
	var wanted []string
	if r != nil {
		wanted = nodeNames(r.Replicas(nil, s.Group))
	}
	for _, x := range s.Servers {
		switch {
		case !slices.Contains(wanted, x.Node):
			g.Leaving++
			continue
		case !x.Voter:
			continue
		}
		g.Voters++
		if x.Alive {
			g.Answer++
			g.Lag = max(g.Lag, s.Last-min(x.Last, s.Last))
		}
		if x.Near {
			g.Near++
		}
	}
	return g
}
