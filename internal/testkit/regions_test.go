package testkit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/history"
)

// TestRegions is one exchange between two regions: a look-up, messages and receipts in both directions, and what is refused.
func TestRegions(t *testing.T) {
	for _, shape := range []Shape{Inside, Apart} {
		t.Run(string(shape), func(t *testing.T) { exchange(t, shape) })
	}
}

func exchange(t *testing.T, shape Shape) {
	one, two, _ := StartRegions(t, shape, Settings{})
	hist := history.New()
	ann := one.NewDevice("ann", hist, DeviceOptions{})
	bob := two.NewDevice("bob", hist, DeviceOptions{})
	if a, b := ann.Self().Account.Region(), bob.Self().Account.Region(); a != 1 || b != 2 {
		t.Fatalf("accounts of regions %d and %d", a, b)
	}
	for _, c := range []struct {
		from *Device
		to   string
	}{{ann, "bob@2"}, {bob, "ann@1"}} {
		if err := c.from.SayAll(c.to, 20, 8); err != nil {
			t.Fatal(err)
		}
		Eventually(t, "receipts for all", func() bool { return c.from.Delivered() == 20 })
	}
	judgeAll(t, hist, ann, bob)
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if a, err := ann.Lookup(ctx, "ann@1"); err != nil || a != ann.Self().Account {
		t.Errorf("the own region's name: %d, %v", a, err)
	}
	if _, err := ann.Lookup(ctx, "bob"); !errors.Is(err, client.ErrUnknownName) {
		t.Errorf("another region's name without the region: %v", err)
	}
	if _, err := ann.Lookup(ctx, "carol@2"); !errors.Is(err, client.ErrUnknownName) {
		t.Errorf("nobody's name: %v", err)
	}
	var refused *client.RefusedError
	if _, err := ann.Lookup(ctx, "bob@3"); !errors.As(err, &refused) || refused.Reason.String() != "foreign_region" {
		t.Errorf("a region without a link: %v", err)
	}
}

// judgeAll waits until everything acked has arrived and judges.
func judgeAll(t *testing.T, hist *History, devices ...*Device) {
	t.Helper()
	owners := map[string][]string{}
	for _, d := range devices {
		owners[d.Name] = append(owners[d.Name], d.Label())
	}
	Eventually(t, "everything acked arrives", func() bool {
		waiting := 0
		for to, labels := range owners {
			waiting += hist.Waiting(to, labels...)
		}
		return waiting == 0
	})
	for _, fault := range hist.Faults(owners) {
		t.Error(fault)
	}
}

// TestRegionsMetrics: what a border shows is what the page says.
func TestRegionsMetrics(t *testing.T) {
	one, _, _ := StartRegions(t, Inside, Settings{})
	compareTable(t, pages(t, one), func(name string) bool { return strings.HasPrefix(name, "linecard_border_") })
}

// TestRegionsFaults is a slow and lossy path that is cut and mended while both sides send, and either side is killed: whatever was acked
// arrives once and in order, and so do receipts.
func TestRegionsFaults(t *testing.T) {
	one, two, path := StartRegions(t, Together, Settings{})
	hist := history.New()
	ann := one.NewDevice("ann", hist, DeviceOptions{Home: one.DiskHome("ann")})
	bob := two.NewDevice("bob", hist, DeviceOptions{Home: two.DiskHome("bob")})
	met(t, ann, "bob@2")
	met(t, bob, "ann@1")
	path.Slow(40*time.Millisecond, 0.002)
	talk := startTalk(t, ann, "bob@2", bob, "ann@1")
	for i := range 6 {
		time.Sleep(700 * time.Millisecond) // faults fall into what is under way, wherever that is
		switch i {
		case 0:
			path.Reset()
		case 1:
			path.Cut()
		case 2:
			one.KillAll()
			one.StartAll()
		case 3:
			path.Mend()
		case 4:
			two.KillAll()
			two.StartAll()
		case 5:
			path.Cut()
			time.Sleep(9 * time.Second) // longer than a silent stream lives
			path.Mend()
		}
	}
	talk.stop()
	path.Slow(5*time.Millisecond, 0)
	judgeAll(t, hist, ann, bob)
	for d, n := range map[*Device]int{ann: talk.counts[0], bob: talk.counts[1]} {
		Eventually(t, fmt.Sprintf("the receipts of %s's %d messages; %d came", d.Name, n, d.Delivered()), func() bool { return d.Delivered() >= n })
	}
	t.Logf("%d and %d messages", talk.counts[0], talk.counts[1])
}

// met waits until a device has looked up a name, which goes to another region.
func met(t *testing.T, d *Device, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if _, err := d.Lookup(ctx, name); err != nil {
		t.Fatal(err)
	}
}

// talk is devices that send until they are stopped.
type talk struct {
	end    chan struct{}
	group  sync.WaitGroup
	counts [2]int
}

func startTalk(t *testing.T, a *Device, toB string, b *Device, toA string) *talk {
	k := &talk{end: make(chan struct{})}
	for i, c := range []struct {
		from *Device
		to   string
	}{{a, toB}, {b, toA}} {
		k.group.Go(func() {
			for {
				select {
				case <-k.end:
					return
				default:
				}
				if err := c.from.SayAll(c.to, 10, 5); err != nil {
					t.Errorf("%s: %v", c.from.Name, err)
					return
				}
				k.counts[i] += 10
			}
		})
	}
	return k
}

func (k *talk) stop() {
	close(k.end)
	k.group.Wait()
}
