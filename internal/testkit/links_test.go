package testkit

import (
	"context"
	"crypto/rand"
	"fmt"
	prand "math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/link"
)

// legs are the directions of all links, with the share of batches that meets each fault. One in a hundred where messages travel; more
// where only answers to queries and to unlinked devices do, so that there are enough of them in a test's time.
var legs = map[link.Leg]float64{
	{From: link.RoleGateway, To: link.RoleRouter}:  0.01,
	{From: link.RoleRouter, To: link.RoleGateway}:  0.05,
	{From: link.RoleRouter, To: link.RoleOffline}:  0.01,
	{From: link.RoleOffline, To: link.RoleRouter}:  0.2,
	{From: link.RoleGateway, To: link.RoleOffline}: 0.01,
	{From: link.RoleOffline, To: link.RoleGateway}: 0.01,
	{From: link.RoleOffline, To: link.RoleOffline}: 0.01,
}

// faultsWanted is how often each fault must have happened on each leg.
func faultsWanted() int {
	if os.Getenv("LINECARD_LONG") != "" {
		return 500
	}
	return 20
}

// TestLinks does to links what the network and hung processes do, within one process and over gRPC. No goroutine and no byte is left
// behind. The cases run beside each other, more than there are processors: most of them wait most of the time.
func TestLinks(t *testing.T) {
	noResidue(t, func(t *testing.T) {
		var cases sync.WaitGroup
		defer cases.Wait()
		start := func(name string, f func(t *testing.T)) { cases.Go(func() { t.Run(name, f) }) }
		start("lossy, one process", func(t *testing.T) {
			f := newFaults(t)
			lossy(t, f, upInside(t, f))
		})
		start("lossy, gRPC", func(t *testing.T) {
			f := newFaults(t)
			lossy(t, f, twoOfEach(t, f))
		})
		for _, c := range stopCases() {
			start("stopped, "+c.name, c.run)
		}
	})
}

func newFaults(t *testing.T) *link.Faults {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return link.NewFaults(prand.NewPCG(seed, 0))
}

// residue bounds the heap that may stay in use after a test, for each gateway that ran in it: gnet remembers every engine of a process, and
// with it the gateway, without its sessions. Beside that there are caches and pools.
const residue = 6 << 20

// gatewaysRun counts the gateways that ran in this process.
var gatewaysRun atomic.Int64

// noResidue runs f and reports goroutines and memory that they leave.
func noResidue(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // the first one only makes finalizers run
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	goroutines, before, ran := runtime.NumGoroutine(), heap(), gatewaysRun.Load()
	if !t.Run("all", f) {
		return // what is left of a failure says nothing
	}
	left := func() bool { return runtime.NumGoroutine() > goroutines }
	for end := time.Now().Add(waitLimit); left() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond) // goroutines that nobody can wait for
	}
	if left() {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", goroutines, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
	}
	after, ran := heap(), gatewaysRun.Load()-ran
	t.Logf("%d goroutines; %d KiB of heap before, %d KiB after %d gateways", runtime.NumGoroutine(), before>>10, after>>10, ran)
	if after > before+residue*uint64(ran) {
		t.Errorf("%d KiB of heap before, %d KiB after", before>>10, after>>10)
	}
}

// lossyRun is the load of a test of lossy links.
type lossyRun struct {
	*spread
	f       *link.Faults
	h       *History
	stop    chan struct{}
	work    sync.WaitGroup
	devices []*Device
	labels  map[string][]string
}

// lossyPairs is how many pairs write to each other, both ways, and each to one of the next pair. A lost answer holds a stream up for 5 s: it takes many streams to fill
// the legs.
const lossyPairs = 32

// lossy drops, delays, duplicates and reorders batches on every leg while clients write to each other, come and go, link and unlink
// devices. Order and single delivery hold all the time; after it everything acked arrives.
func lossy(t *testing.T, f *link.Faults, s *spread) {
	r := &lossyRun{spread: s, f: f, h: NewHistory(), stop: make(chan struct{}), labels: map[string][]string{}}
	for i := range 2 * lossyPairs {
		r.device(i, fmt.Sprintf("user%d", i))
	}
	crowd := s.doors[0].NewCrowd(CrowdOptions{Sessions: 8}) // looks at the wire, in front of the clients' id rule
	r.setFaults(true)
	for i, d := range r.devices {
		for _, to := range []int{i ^ 1, (i + 2) % len(r.devices)} {
			name := r.devices[to].Name
			r.until(func() error { return d.SayAll(name, 16, 8) })
		}
	}
	r.comeAndGo(r.device(0, "host"))
	for i := range 16 {
		r.linkAndUnlink(r.device(i, fmt.Sprintf("linker%d", i)))
	}
	for end := time.Now().Add(time.Duration(faultsWanted()) * 10 * time.Second); !r.enough(); time.Sleep(20 * time.Millisecond) { // the load goes on until it met faults enough
		if time.Now().After(end) {
			t.Error("not enough faults on each leg")
			break
		}
	}
	close(r.stop)
	r.setFaults(false)
	r.work.Wait()
	messages := crowd.Rest()
	r.h.Judge(t, r.labels)
	r.receipts()
	s.settle()
	crowd.end()
	for _, d := range r.devices {
		d.Close()
	}
	s.empty()
	sent, acked, got := r.h.Totals()
	t.Logf("sent %d, acked %d, received %d, and %d of the crowd", sent, acked, got, messages)
	if acked != sent || got != sent {
		t.Error("not all was acked and received")
	}
	forget(r.devices, r.h)
	for leg := range legs {
		t.Logf("%v to %v: %+v", leg.From, leg.To, f.Tally(leg))
	}
}

// forget lets go of what a device and its history remember, which a test keeps to its end.
func forget(devices []*Device, h *History) {
	for _, d := range devices {
		d.mu.Lock()
		d.texts, d.delivered, d.read = nil, nil, nil
		d.mu.Unlock()
	}
	h.Forget()
}

// device adds a device at one of the gateways.
func (r *lossyRun) device(i int, name string) *Device {
	d := r.doors[i%len(r.doors)].NewDevice(name, r.h, DeviceOptions{})
	r.devices = append(r.devices, d)
	r.labels[name] = []string{name + "/1"}
	return d
}

func (r *lossyRun) setFaults(on bool) {
	for leg, share := range legs {
		if !on {
			share = 0
		}
		r.f.Set(leg, link.Plan{Drop: share, Delay: share, Duplicate: share, Reorder: share})
	}
}

func (r *lossyRun) enough() bool {
	want := faultsWanted()
	for leg := range legs {
		if x := r.f.Tally(leg); min(x.Dropped, x.Delayed, x.Duplicated, x.Reordered) < want {
			return false
		}
	}
	return true
}

// until repeats work until the run stops.
func (r *lossyRun) until(work func() error) {
	r.work.Go(func() {
		for {
			select {
			case <-r.stop:
				return
			default:
			}
			if err := work(); err != nil {
				r.t.Error(err)
				return
			}
		}
	})
}

// comeAndGo has a guest bind again and again while its host writes to it, so that sessions are bound and attached under faults.
func (r *lossyRun) comeAndGo(host *Device) {
	const name = "guest"
	home, door := client.MemoryHome(), r.doors[len(r.doors)-1]
	guest := door.NewDevice(name, r.h, DeviceOptions{Home: home})
	r.labels[name] = []string{name + "/1"}
	r.until(func() error { return host.SayAll(name, 16, 8) })
	r.work.Go(func() {
		for {
			select {
			case <-r.stop:
				r.devices = append(r.devices, guest)
				return
			default:
			}
			seen := len(guest.Texts())
			for end := time.Now().Add(time.Second); len(guest.Texts()) == seen && time.Now().Before(end); {
				time.Sleep(5 * time.Millisecond) // or nothing came, because the last session's attachment is still there
			}
			guest.Close()
			var err error
			if guest, err = door.OpenDevice(name, r.h, DeviceOptions{Home: home}); err != nil {
				r.t.Errorf("%s comes again: %v", name, err)
				return
			}
		}
	})
}

// linkAndUnlink makes the directory tell the queues of devices that are no more.
func (r *lossyRun) linkAndUnlink(d *Device) {
	r.until(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		var key [32]byte
		if _, err := rand.Read(key[:]); err != nil {
			return err
		}
		n, err := d.LinkDevice(ctx, key)
		if err == nil {
			err = d.UnlinkDevice(ctx, n)
		}
		if err != nil && strings.Contains(err.Error(), "retry") {
			return nil // the outcome is unknown, and the device's number with it
		}
		return err
	})
}

// receipts waits until every sender has a delivered receipt for every message.
func (r *lossyRun) receipts() {
	r.t.Helper()
	for _, d := range r.devices {
		Eventually(r.t, d.Name+" has its delivered receipts", func() bool {
			return d.Delivered() >= r.h.SentBy(d.Label())
		})
	}
}
