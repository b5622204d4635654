package shard

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
)

// lowRig is three replicas, each with a disk of its own.
type lowRig struct {
	t     *testing.T
	ms    []*member
	disks []*Disk
	files []*smallFS
}

func newLowRig(t *testing.T) *lowRig {
	r := &lowRig{t: t}
	for range 3 {
		d, s, _ := diskBench(t)
		r.disks, r.files = append(r.disks, d), append(r.files, s)
	}
	r.ms = grown(t, 3, func(i int, c *HostConfig) {
		c.Disk = r.disks[i]
		c.AskPeer = func(_ context.Context, node string, _ stanza.Group) (PeerStatus, error) {
			return PeerStatus{Applied: 1 << 30, Low: r.disks[node[1]-'0'].Low()}, nil
		}
	})
	return r
}

// leads waits until node i leads, and then looks for a while whether that stays so.
func (r *lowRig) leads(i int) {
	r.t.Helper()
	within(r.t, 2*time.Minute, fmt.Sprintf("n%d leads", i), func() bool { return leading(r.ms) == r.ms[i] })
	time.Sleep(2 * time.Minute)
	if leading(r.ms) != r.ms[i] {
		r.t.Errorf("n%d does not lead any more", i)
	}
}

func (r *lowRig) fill(i int)  { look(r.disks[i], r.files[i], 55<<20) }
func (r *lowRig) empty(i int) { look(r.disks[i], r.files[i], 0) }

// A leader whose disk is low hands over to a replica whose disk is not, and gets the leadership back when it has room. Nothing is refused, until
// no replica has room.
func TestLowDiskYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLowRig(t)
		r.leads(0)
		p := startPump(t, r.ms, 10*time.Millisecond)
		p.longest()
		r.fill(0)
		if r.ms[0].g.StorageFull() {
			t.Error("refused while others have room")
		}
		r.leads(1)
		if gap := p.longest(); gap > 100*time.Millisecond {
			t.Errorf("%v without a commit", gap)
		}
		p.end(t, r.ms)

		r.fill(1)
		r.leads(2) // n0 is asked, too
		r.empty(0)
		r.leads(0)
		r.fill(0)
		r.leads(2)
		r.fill(2)
		time.Sleep(yieldWithin + time.Second)
		if lead := leading(r.ms); lead != r.ms[2] || !lead.g.StorageFull() {
			t.Error("nobody has room, and nothing is refused")
		}
		r.empty(1)
		r.leads(1)
		if r.ms[1].g.StorageFull() {
			t.Error("refused with room")
		}
	})
}

// A leadership that begins on a low disk refuses nothing either until others could lead: messages come within the turn in which it begins.
func TestLowDiskLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLowRig(t)
		r.leads(0)
		refused := make([]atomic.Bool, len(r.ms))
		for i, x := range r.ms {
			x.m.onLead = func() { refused[i].Store(x.g.StorageFull()) }
		}
		r.fill(1)
		r.fill(2)
		cut(r.ms, 0)
		within(t, time.Minute, "another leads", func() bool { l := leading(r.ms); return l == r.ms[1] || l == r.ms[2] })
		if refused[1].Load() || refused[2].Load() {
			t.Error("messages are refused while others may have room")
		}
	})
}

// A group that has nobody else refuses at once.
func TestLowDiskAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s, _ := diskBench(t)
		ms := openNodes(t, 1, func(_ int, c *HostConfig) { c.Disk = d })
		time.Sleep(time.Minute)
		look(d, s, 55<<20)
		if !ms[0].g.StorageFull() {
			t.Error("not refused")
		}
	})
}
