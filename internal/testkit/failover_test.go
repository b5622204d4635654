package testkit

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// TestGatewayFailOver kills a leader that has messages and has not answered them, of a queue and of a directory, beside a load. The gateway
// keeps its sessions, tells them to send again, keeps no copy and acknowledges nothing by itself, and binds every session to the new leader.
func TestGatewayFailOver(t *testing.T) {
	s, h, ann, bob := startPair(t)
	raw, err := DialRaw(s.Server)
	must(t, err)
	defer raw.Close()
	must(t, raw.SetDeadline(time.Now().Add(5*time.Minute)))
	must(t, raw.Register("raw"))
	talk := make(chan error, 1)
	stop := make(chan struct{})
	go func() { talk <- talkUntil(stop, ann) }()
	c := &confused{t: t, s: s, h: h, raw: raw, to: bob.Self().Account, id: raw.Bound.ID + 2048}
	for _, group := range []stanza.Group{stanza.QueueGroup(c.shard()), stanza.DirGroup(c.shard())} {
		c.loseLeader(group)
	}
	close(stop)
	must(t, <-talk)
	must(t, bob.SayAll("ann", 8, 8))
	h.Judge(t, annAndBob)
	if a, b := ann.Connects(), bob.Connects(); a != 1 || b != 1 {
		t.Errorf("ann connected %d times and bob %d times, want 1 and 1", a, b)
	}
}

// talkUntil has a device say something to bob until stop is closed.
func talkUntil(stop <-chan struct{}, d *Device) error {
	for {
		select {
		case <-stop:
			return nil
		default:
			if err := d.SayAll("bob", 8, 4); err != nil {
				return err
			}
		}
	}
}

// confused is a client that sends nothing again unless the test wants it to.
type confused struct {
	t   *testing.T
	s   *System
	h   *History
	raw *Raw
	to  stanza.Account
	id  uint64
}

// confusedStream is the client's in the history: it gives no name.
var confusedStream = Stream{From: "/1", To: "bob"}

func (c *confused) shard() int { return stanza.ShardOf(c.to, defaultShards) }

// say sends the present message.
func (c *confused) say() {
	c.t.Helper()
	m := stanza.MessageUp{ID: c.id, Account: c.to, Version: 1, Body: stanza.AppendCipher(nil, 1, []byte("raw"))}
	must(c.t, c.raw.Say(m.Append(nil)))
}

// errAcked says that a message was acknowledged.
var errAcked = errors.New("acknowledged")

// until reads to a stanza of that tag and returns it. An ack of the present message before it is an error; those of earlier ones, which were sent
// more than once, are not.
func (c *confused) until(tag stanza.Tag) (stanza.View, error) {
	for {
		v, err := c.raw.Next()
		switch {
		case err != nil, v.Tag == tag:
			return v, err
		case v.Tag == stanza.TagAck:
			a, err := stanza.ParseAck(v)
			if err != nil {
				return v, err
			}
			ids := stanza.Packed(a.IDs)
			for id, ok := ids.Next(); ok; id, ok = ids.Next() {
				if id == c.id {
					return v, errAcked
				}
			}
		case v.Tag == stanza.TagClose:
			return v, closedBy(v)
		}
	}
}

// loseLeader stops the leader of a group, sends it a message, kills it, and looks what comes of the message.
func (c *confused) loseLeader(group stanza.Group) {
	c.t.Helper()
	name := c.s.WaitLeader(group, "")
	p := c.s.Process(name)
	p.Pause()
	c.id++
	c.h.Sent(confusedStream, c.id)
	c.say()
	from := time.Now()
	p.Kill()
	if _, err := c.until(stanza.TagRetry); err != nil {
		c.t.Fatalf("%s killed: no retry: %v", name, err)
	}
	told := time.Since(from)
	next := c.s.WaitLeader(group, name)
	c.waitBound(group, next)
	bound := time.Since(from)
	// The shard works again for all others: a copy of the message would have arrived by now, and its ack.
	other := c.s.NewDevice("other-"+name, c.h, DeviceOptions{})
	must(c.t, other.SayAll("bob", 2, 1))
	must(c.t, c.raw.Say(stanza.Ping{}.Append(nil)))
	if _, err := c.until(stanza.TagPong); err != nil {
		c.t.Fatalf("%s killed: a message that was not sent again: %v", name, err)
	}
	c.say()
	for {
		v, err := c.until(stanza.TagRefused)
		if errors.Is(err, errAcked) {
			break
		}
		if err != nil {
			c.t.Fatalf("%s killed: no ack of what was sent again: %v", name, err)
		}
		c.t.Logf("refused: %v", v)
		c.say()
	}
	c.h.Acked(confusedStream, c.id)
	c.t.Logf("%s, leader of %s, killed: retry after %v, %s leads and all sessions are bound after %v", name, group, told, next, bound)
	c.s.StartAll()
	c.s.WaitVoters(3)
}

// waitBound waits until the leader of a directory knows the sessions of the accounts in it; of a queue there is nothing to wait for.
func (c *confused) waitBound(group stanza.Group, leader string) {
	c.t.Helper()
	if group.IsQueue() {
		return
	}
	Eventually(c.t, "bob is bound to the new leader", func() bool {
		return c.s.Metrics(leader)[fmt.Sprintf("linecard_router_bindings{group=%q}", group)] >= 1
	})
}
