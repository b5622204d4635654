package client

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"time"
)

// A network forgets a connection on which nothing is said for some time, between a minute and never, and says nothing when it does. So a
// client that was not told an interval learns how long it may keep silent: a few pings behind a whole interval of silence that are answered
// make the interval longer, one that is not makes it half of what it was, and what failed is not come near again until the network
// has long been well. The server hears of each change, in bind or in the ping that comes after it.
const (
	paceGrow    = 3                // answered pings in a row that make the interval longer
	paceForget  = 20               // answered pings in a row after which what failed once is tried again
	leastLearnt = time.Minute      // the server waits no shorter
	paceUnit    = 15 * time.Second // in which the server counts
)

// pace is the interval of a client's pings, and what it has learnt. Under Client.mu.
type pace struct {
	fixed     bool // the application has set the interval
	interval  time.Duration
	failed    time.Duration // the shortest silence that the network did not survive, 0: none
	survived  int           // answered pings in a row, at this interval
	announced time.Duration // what the server was told in this session
}

func newPace(set, learnt, failed time.Duration) pace {
	switch {
	case set != 0:
		return pace{fixed: true, interval: set}
	case learnt != 0:
		return pace{interval: learnt, failed: failed}
	}
	return pace{interval: defaultPing}
}

// answered is called when a ping behind an interval of silence was answered. It reports whether there is something new to keep.
func (p *pace) answered() bool {
	if p.fixed {
		return false
	}
	p.survived++
	if p.failed != 0 && p.survived >= paceForget {
		p.failed = 0
	}
	// Longer by a half at most: a server that has not heard of it yet waits for one and a half of what it knows.
	next := min(p.interval*3/2, maxPing)
	if p.failed != 0 {
		next = min(next, p.failed*7/8)
	}
	next -= next % paceUnit
	if p.survived < paceGrow || next <= p.interval {
		return false
	}
	p.interval, p.survived = next, 0
	return true
}

// lost is called when a ping behind an interval of silence was not answered: the connection has gone meanwhile.
func (p *pace) lost() (changed bool) {
	if p.fixed {
		return false
	}
	if p.failed == 0 || p.interval < p.failed {
		p.failed = p.interval
	}
	next := max(p.interval/2, leastLearnt)
	next -= next % paceUnit
	p.interval, p.survived = next, 0
	return true
}

// reset forgets what was learnt: this is another network.
func (p *pace) reset() {
	if !p.fixed {
		*p = pace{interval: defaultPing, announced: p.announced}
	}
}

// announce returns the seconds to put into a ping, 0 when the server knows them.
func (p *pace) announce() uint32 {
	if p.interval == p.announced {
		return 0
	}
	p.announced = p.interval
	return uint32(p.interval / time.Second)
}

// A Home keeps what was learnt in a file of its own, which is worth no sync:
//
//	checksum  4 bytes, big-endian: CRC-32C of the rest
//	interval  4 bytes, seconds
//	failed    4 bytes, seconds, 0: none

const paceBytes = 12

// readPace loads what was learnt; what is not readable was not.
func (h *Home) readPace() error {
	b, err := os.ReadFile(h.path("pace"))
	if err != nil || len(b) != paceBytes || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return nil
	}
	interval := time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second
	if interval >= leastLearnt && interval <= maxPing {
		h.learnt, h.failed = interval, time.Duration(binary.BigEndian.Uint32(b[8:]))*time.Second
	}
	return nil
}

// putPace keeps what was learnt.
func (h *Home) putPace(p *pace) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.learnt, h.failed = p.interval, p.failed; h.dir == "" {
		return
	}
	b := make([]byte, 4, paceBytes)
	b = binary.BigEndian.AppendUint32(b, uint32(p.interval/time.Second))
	b = binary.BigEndian.AppendUint32(b, uint32(p.failed/time.Second))
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	_ = os.WriteFile(h.path("pace"), b, 0o600) // a disk that fails is noticed by the journal
}

// takePace returns what was learnt, 0 for nothing.
func (h *Home) takePace() (learnt, failed time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.learnt, h.failed
}

// NetworkChanged tells the client that the device is on another network: how long that lets a connection be silent is to be learnt anew, a
// connection that there is may be dead and is pinged at once, and connecting may work now.
func (c *Client) NetworkChanged() {
	c.mu.Lock()
	if s := c.sess; s != nil {
		s.moved, s.probing = true, false
	}
	if !c.pace.fixed {
		c.pace.reset()
		c.home.putPace(&c.pace)
	}
	c.mu.Unlock()
	c.Hurry()
	signal(c.wake)
}
