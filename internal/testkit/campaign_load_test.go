package testkit

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/stanza"
)

// steady is a load that goes on at its own pace whatever happens to the system: a device in each shard, each of which sends to another one
// every few milliseconds, with a bounded number of messages on their way. It notes when each message was acked.
type steady struct {
	t       testing.TB
	h       *History
	devices []*Device
	labels  map[string][]string
	began   time.Time

	pause   atomic.Bool
	stop    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	queued int         // handed to Send, and not acked yet
	shards []shardAcks // by the shard of the recipient
}

// shardAcks is what the senders to one shard saw. Times are since the load began.
type shardAcks struct {
	at     []time.Duration // when a message was acked, in order
	newest time.Duration   // when the newest acked message was sent
}

const (
	steadyPace  = 25 * time.Millisecond
	steadyAhead = 64
)

// newSteady registers the devices and starts them.
func newSteady(t testing.TB, s *System, h *History) *steady {
	l := &steady{t: t, h: h, labels: map[string][]string{}, stop: make(chan struct{}), shards: make([]shardAcks, defaultShards), began: time.Now()}
	for shard := range defaultShards {
		name := nameInShard("user", shard)
		d := s.NewDevice(name, h, DeviceOptions{Receipts: true})
		if got := stanza.ShardOf(d.Self().Account, defaultShards); got != shard {
			t.Fatalf("%s is in shard %d, want %d", name, got, shard)
		}
		l.devices = append(l.devices, d)
		l.labels[name] = []string{d.Label()}
	}
	for i := range l.devices {
		l.send(i)
	}
	return l
}

// nameInShard returns a handle whose account is created in a shard.
func nameInShard(prefix string, shard int) string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("%s%d-%d", prefix, shard, i); stanza.HandleShard(name, defaultShards) == shard {
			return name
		}
	}
}

// onItsWay is a message that waits for its ack.
type onItsWay struct {
	*client.Sent
	at time.Duration
}

// send starts the sender of device i, which writes to the device of the neighbouring shard, and who waits for its acks.
func (l *steady) send(i int) {
	to := i ^ 1
	name := l.devices[to].Name
	flight := make(chan onItsWay, steadyAhead)
	l.running.Go(func() {
		defer close(flight)
		for {
			select {
			case <-l.stop:
				return
			case <-time.After(steadyPace): // the load's pace
			}
			if l.pause.Load() || len(flight) == cap(flight) {
				continue
			}
			at := time.Since(l.began)
			l.count(1)
			sent, err := l.devices[i].Say(name, "steady")
			if err != nil {
				l.t.Errorf("%s to %s: %v", l.devices[i].Name, name, err)
				return
			}
			flight <- onItsWay{sent, at}
		}
	})
	l.running.Go(func() {
		for m := range flight {
			if err := l.devices[i].Acked(name, m.Sent); err != nil {
				l.t.Errorf("%s to %s, message %d: %v", l.devices[i].Name, name, m.ID, err)
			}
			l.acked(to, m.at)
		}
	})
}

func (l *steady) count(n int) {
	l.mu.Lock()
	l.queued += n
	l.mu.Unlock()
}

func (l *steady) acked(shard int, sent time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued--
	a := &l.shards[shard]
	a.at, a.newest = append(a.at, time.Since(l.began)), sent
}

// served waits until a message that was sent from now on is acked in every shard, and returns when that was.
func (l *steady) served() time.Duration {
	l.t.Helper()
	from := time.Since(l.began)
	Eventually(l.t, "a new message is acked in every shard", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !slices.ContainsFunc(l.shards, func(a shardAcks) bool { return a.newest < from })
	})
	return time.Since(l.began)
}

// gap returns the longest time without an ack of a shard's messages, as far as it lies between from and to.
func (l *steady) gap(shard int, from, to time.Duration) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.shards[shard].at
	i, _ := slices.BinarySearch(at, from)
	before := from
	for ; i < len(at) && at[i] <= to; i++ {
		longest = max(longest, at[i]-before)
		before = at[i]
	}
	return max(longest, to-before)
}

// settle has the load pause until everything is acked and received, judges the history, and lets the load go on. It reports whether all is well.
func (l *steady) settle() bool {
	l.t.Helper()
	defer l.pause.Store(false)
	return l.drain()
}

// drain is settle, but the load goes on when pause is set to false.
func (l *steady) drain() bool {
	l.t.Helper()
	l.pause.Store(true)
	Eventually(l.t, "everything that was sent is acked", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.queued == 0
	})
	waiting := func() (n int) {
		for to, devices := range l.labels {
			n += l.h.Waiting(to, devices...)
		}
		return n
	}
	for end := time.Now().Add(waitLimit); waiting() > 0 && time.Now().Before(end); { // what is missing is a fault below
		time.Sleep(10 * time.Millisecond) // devices note what they get, and tell nobody
	}
	faults := l.h.Faults(l.labels)
	for _, f := range faults {
		l.t.Error(f)
	}
	return len(faults) == 0
}

// end ends the load; what is on its way is waited for.
func (l *steady) end() {
	close(l.stop)
	l.running.Wait()
}

// shardOfGroup is the number in the name of a group, such as dir/3.
func shardOfGroup(group string) (shard int) {
	if _, err := fmt.Sscanf(group[strings.IndexByte(group, '/')+1:], "%d", &shard); err != nil {
		panic(err) // names of groups are ours
	}
	return shard
}
