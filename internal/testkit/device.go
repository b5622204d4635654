package testkit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/gateway/client"
)

// waitLimit bounds every wait for something that must happen. Nothing is asserted about how long it takes.
const waitLimit = 90 * time.Second

// Device is a client under test whose sends and receipts go into a history. Safe for concurrent use after NewDevice.
type Device struct {
	Name string // handle
	Home *client.Home
	*client.Client

	t        testing.TB
	hist     *History
	receipts bool
	stop     context.CancelFunc
	done     chan struct{} // closed when the receiver has ended; nil: it never ran

	connects atomic.Int64 // sessions bound so far

	mu        sync.Mutex
	texts     []string // of the messages received, in order
	delivered map[uint64]bool
	read      map[uint64]bool

	undelivered map[uint64]client.Reason
}

// DeviceOptions change how a device connects.
type DeviceOptions struct {
	Home   *client.Home // nil: a fresh one in memory
	Invite string
	Quiet  bool // receive nothing until Listen is called
	// Receipts has the history judge the receipts, too: then all that gets the device's messages is a Device with Receipts.
	Receipts bool
}

// NewDevice opens a client named name, registered at first use, and starts to receive. It ends with the test.
func (s *System) NewDevice(name string, hist *History, o DeviceOptions) *Device {
	s.t.Helper()
	d, err := s.OpenDevice(name, hist, o)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	return d
}

// OpenDevice is NewDevice for callers that expect an error or run on a goroutine of their own.
func (s *System) OpenDevice(name string, hist *History, o DeviceOptions) (*Device, error) {
	roots, err := client.ReadRoots(s.Root)
	if err != nil {
		return nil, err
	}
	if o.Home == nil {
		o.Home = client.MemoryHome()
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	d := &Device{Name: name, Home: o.Home, t: s.t, hist: hist, receipts: o.Receipts, delivered: map[uint64]bool{}, read: map[uint64]bool{}, undelivered: map[uint64]client.Reason{}}
	d.Client, err = client.Open(ctx, client.Options{
		Home: o.Home, Address: s.Server, Handle: name, Invite: o.Invite, Roots: roots, Notify: func(n client.Notice) {
			if n.Kind == client.NoticeConnected {
				d.connects.Add(1)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	if !o.Quiet {
		d.Listen()
	}
	s.t.Cleanup(d.Close)
	return d, nil
}

// DiskHome opens a home directory of the test.
func (s *System) DiskHome(name string) *client.Home {
	s.t.Helper()
	h, err := client.OpenHome(filepath.Join(s.Dir, "home-"+name))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { h.Close() })
	return h
}

// Label names the device in a history: handle/number.
func (d *Device) Label() string { return fmt.Sprintf("%s/%d", d.Name, d.Self().Device) }

// Listen starts to receive, record and acknowledge.
func (d *Device) Listen() {
	ctx, cancel := context.WithCancel(context.Background())
	d.stop, d.done = cancel, make(chan struct{})
	go func() {
		defer close(d.done)
		for d.receive(ctx) {
		}
	}()
}

func (d *Device) receive(ctx context.Context) bool {
	e, err := d.Client.Receive(ctx)
	if err != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch e := e.(type) {
	case *client.Message:
		d.texts = append(d.texts, e.Text)
		if from := (Stream{From: fmt.Sprintf("%s/%d", e.Claimed, e.FromDevice), To: d.Name}); d.hist != nil {
			d.hist.Received(from, d.Label(), e.ID)
			if d.receipts {
				d.hist.Confirmed(from, d.Label(), e.ID) // before Done, since the receipt may overtake what comes after it
			}
		}
		return e.Done() == nil
	case *client.Receipt:
		if e.From == d.Self().Account {
			return true // for a copy to the own account's other devices
		}
		for _, id := range e.IDs {
			if e.Undelivered != 0 {
				d.undelivered[id] = e.Undelivered
			} else if e.Read {
				d.read[id] = true
			} else {
				d.delivered[id] = true
				if d.receipts {
					d.hist.Delivered(Stream{From: d.Label(), To: e.Name}, id)
				}
			}
		}
	}
	return true
}

// Close ends the client and its receiver. The home stays.
func (d *Device) Close() {
	if d.stop != nil {
		d.stop()
		<-d.done
	}
	d.Client.Close()
}

// handleOf returns a name without its region: a history has one name for a device, whoever writes to it.
func handleOf(name string) string {
	handle, _, _ := strings.Cut(name, "@")
	return handle
}

// Say sends a text and records it; the returned function waits for the ack.
func (d *Device) Say(to, text string) (*client.Sent, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	sent, err := d.Send(ctx, to, text)
	if err == nil && d.hist != nil {
		d.hist.Sent(Stream{From: d.Label(), To: handleOf(to)}, sent.ID)
	}
	return sent, err
}

// Acked waits until a message is acked and records that.
func (d *Device) Acked(to string, sent *client.Sent) error {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	err := sent.Wait(ctx)
	if err == nil && d.hist != nil {
		d.hist.Acked(Stream{From: d.Label(), To: handleOf(to)}, sent.ID)
	}
	return err
}

// SayAll sends n messages with at most ahead of them unacked, and waits for all acks.
func (d *Device) SayAll(to string, n, ahead int) error {
	var waiting []*client.Sent
	for i := range n {
		sent, err := d.Say(to, fmt.Sprintf("%s to %s: %d", d.Name, to, i))
		if err != nil {
			return err
		}
		if waiting = append(waiting, sent); len(waiting) >= ahead {
			if err := d.Acked(to, waiting[0]); err != nil {
				return err
			}
			waiting = waiting[1:]
		}
	}
	var errs []error
	for _, sent := range waiting {
		errs = append(errs, d.Acked(to, sent))
	}
	return errors.Join(errs...)
}

// Connects counts the sessions that the device has had.
func (d *Device) Connects() int64 { return d.connects.Load() }

// Texts returns the texts received so far.
func (d *Device) Texts() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.texts...)
}

// Delivered counts the messages whose delivered receipt came; Read those with a read receipt.
func (d *Device) Delivered() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.delivered)
}

// Read counts the messages whose read receipt came.
func (d *Device) Read() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.read)
}

// Eventually looks until ok holds; the test fails with what when it does not within a generous limit. What it looks at is changed by
// other goroutines or processes that tell nobody, so it asks again after a pause.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(waitLimit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", waitLimit, what)
		}
	}
}
