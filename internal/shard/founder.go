package shard

import "github.com/hashicorp/raft"

// A group begins with one voter, who needs nobody to lead it. A log that is torn back to that time, which cannot be told from one that was
// never longer, would make the founder lead again, alone, beside the others' leader: it would answer from what it has left, and acknowledge
// what is thrown away when it hears of them. Of everybody else whose log is torn, those who remember are asked for their votes. So tables
// are made durable when another voter has come: a log that ends before their F is refused, see checkState. Once in a group's life.

// noteConfigurations takes down the configurations among committed entries, and reports whether by one of them the group has more than one
// voter for the first time, and the tables do not say so yet.
func (c *core) noteConfigurations(logs []*raft.Log) (joined bool) {
	for _, l := range logs {
		if l.Type != raft.LogConfiguration {
			continue
		}
		was := c.configured.Load()
		c.noteConfigured(l.Index, raft.DecodeConfiguration(l.Data))
		is := c.configured.Load()
		joined = joined || was != nil && was.voters == 1 && is.voters > 1 && c.flushedAt.Load() < is.index
	}
	return joined
}

// pin makes the tables durable, with an F that covers all that has been applied. What fails here is reported by the host.
func (c *core) pin() {
	req := flushReq{done: make(chan error, 1)}
	select {
	case c.flushes <- req:
	case <-c.dead:
		return
	}
	select {
	case err := <-req.done:
		if err == nil {
			_ = c.host.flushState()
		}
	case <-c.dead:
	}
}
