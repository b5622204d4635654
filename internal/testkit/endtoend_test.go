package testkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"linecard.example/gateway/client"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(sourceEnv); args != "" {
		if err := runSource(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	RemoveBinary()
	os.Exit(code)
}

// eachShape runs a scenario in each shape of a system.
func eachShape(t *testing.T, set Settings, f func(t *testing.T, s *System)) {
	for _, shape := range []Shape{Inside, Together, Apart} {
		t.Run(string(shape), func(t *testing.T) { f(t, Start(t, shape, set)) })
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOnline(t *testing.T) {
	eachShape(t, Settings{}, func(t *testing.T, s *System) {
		h := NewHistory()
		ann, bob := s.NewDevice("ann", h, DeviceOptions{}), s.NewDevice("bob", h, DeviceOptions{})
		must(t, ann.SayAll("bob", 20, 8))
		must(t, bob.SayAll("ann", 20, 8))
		h.Judge(t, annAndBob)
		Eventually(t, "delivered receipts on both sides", func() bool { return ann.Delivered() == 20 && bob.Delivered() == 20 })
	})
}

func TestReadReceipt(t *testing.T) {
	s := Start(t, Inside, Settings{})
	ann, bob := s.NewDevice("ann", nil, DeviceOptions{}), s.NewDevice("bob", nil, DeviceOptions{Quiet: true})
	must(t, ann.SayAll("bob", 5, 5))
	ctx := t.Context()
	var got []*client.Message
	for len(got) < 5 {
		e, err := bob.Client.Receive(ctx)
		must(t, err)
		if m, ok := e.(*client.Message); ok {
			must(t, m.Done())
			got = append(got, m)
		}
	}
	must(t, bob.MarkRead(ctx, got...))
	Eventually(t, "read receipts", func() bool { return ann.Read() == 5 && ann.Delivered() == 5 })
}

func TestAwayThenLogin(t *testing.T) {
	eachShape(t, Settings{}, func(t *testing.T, s *System) {
		h := NewHistory()
		bob := s.NewDevice("bob", h, DeviceOptions{})
		bob.Close()
		ann := s.NewDevice("ann", h, DeviceOptions{})
		must(t, ann.SayAll("bob", 300, 32))
		if n := len(bob.Texts()); n != 0 {
			t.Fatalf("bob got %d messages while away", n)
		}
		s.NewDevice("bob", h, DeviceOptions{Home: bob.Home})
		h.Judge(t, map[string][]string{"bob": {"bob/1"}})
		Eventually(t, "300 delivered receipts", func() bool { return ann.Delivered() == 300 })
	})
}

// TestFullQueueDrains sends to somebody who is away until his queue is full, and goes on while it drains: what was refused comes before
// what is behind it, so nothing of it counts as a duplicate.
func TestFullQueueDrains(t *testing.T) {
	s := Start(t, Inside, Settings{Offline: "queue_entries = 64\nfull_retry_after = \"50ms\"\n"})
	h := NewHistory()
	bob := s.NewDevice("bob", h, DeviceOptions{})
	bob.Close()
	ann := s.NewDevice("ann", h, DeviceOptions{})
	sent := make(chan error, 1)
	go func() { sent <- ann.SayAll("bob", 400, 32) }()
	Eventually(t, "a refusal", func() bool { return s.Metrics("up").Sum(`linecard_offline_refusals_total{reason="queue_full"}`) > 0 })
	s.NewDevice("bob", h, DeviceOptions{Home: bob.Home})
	must(t, <-sent)
	h.Judge(t, map[string][]string{"bob": {"bob/1"}})
}

// TestReconnectMidDrain ends the receiver again and again while its queue drains.
func TestReconnectMidDrain(t *testing.T) {
	eachShape(t, Settings{}, func(t *testing.T, s *System) {
		h := NewHistory()
		bob := s.NewDevice("bob", h, DeviceOptions{})
		bob.Close()
		ann := s.NewDevice("ann", h, DeviceOptions{})
		must(t, ann.SayAll("bob", 500, 32))
		total := 0
		for round := 0; total < 500; round++ {
			if round > 200 {
				t.Fatal("no progress")
			}
			bob = s.NewDevice("bob", h, DeviceOptions{Home: bob.Home})
			Eventually(t, "some messages", func() bool { return len(bob.Texts()) > 0 })
			bob.Close()
			total += len(bob.Texts())
		}
		h.Judge(t, map[string][]string{"bob": {"bob/1"}})
	})
}

// TestInterleaved sends 10,000 messages over interleaved streams, both ways at once.
func TestInterleaved(t *testing.T) {
	eachShape(t, Settings{}, func(t *testing.T, s *System) {
		h := NewHistory()
		names := []string{"ann", "bob", "cid", "dot"}
		devices, labels := map[string]*Device{}, map[string][]string{}
		for _, n := range names {
			devices[n] = s.NewDevice(n, h, DeviceOptions{})
			labels[n] = []string{n + "/1"}
		}
		var wg sync.WaitGroup
		errs := make(chan error, len(names)*len(names))
		for _, from := range names {
			for _, to := range names {
				if from != to {
					wg.Go(func() { errs <- devices[from].SayAll(to, 10000/12+1, 32) })
				}
			}
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			must(t, err)
		}
		h.Judge(t, labels)
		if sent, acked, got := h.Totals(); sent < 10000 || acked != sent || got != sent {
			t.Errorf("sent %d, acked %d, received %d", sent, acked, got)
		}
	})
}

// crowd lets many clients of one address in at once.
const crowd = "handshake_rate = 100000.0\nhandshake_burst = 100000\nregister_rate = 100000.0\nregister_burst = 100000\n"

// TestThousandClients lets 1,000 clients at once register and send to each other.
func TestThousandClients(t *testing.T) {
	eachShape(t, Settings{Gateway: crowd}, func(t *testing.T, s *System) {
		const n = 1000
		h := NewHistory()
		labels := map[string][]string{}
		devices := make([]*Device, n)
		name := func(i int) string { return fmt.Sprintf("user%d", i) }
		parallel(t, n, 50, func(i int) (err error) {
			devices[i], err = s.OpenDevice(name(i), h, DeviceOptions{})
			return err
		})
		for i := range n {
			labels[name(i)] = []string{name(i) + "/1"}
		}
		parallel(t, n, n, func(i int) error { return devices[i].SayAll(name((i+1)%n), 5, 5) })
		h.Judge(t, labels)
	})
}

// parallel runs f for 0..n-1 on at most width goroutines and fails the test with the first errors.
func parallel(t *testing.T, n, width int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	next, errs := make(chan int), make(chan error, n)
	for range width {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					errs <- fmt.Errorf("%d: %w", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	close(errs)
	failed := 0
	for err := range errs {
		if failed++; failed <= 3 {
			t.Error(err)
		}
	}
	if failed > 0 {
		t.Fatalf("%d of %d failed", failed, n)
	}
}

// TestDisplaced binds a device a second time: the first session ends with displaced and does not come back by itself.
func TestDisplaced(t *testing.T) {
	eachShape(t, Settings{}, func(t *testing.T, s *System) {
		h := NewHistory()
		dir := t.TempDir()
		open := func() *client.Home {
			home, err := client.OpenHome(dir)
			must(t, err)
			return home
		}
		home := open()
		old := s.NewDevice("bob", h, DeviceOptions{Home: home})
		copied := copyHome(t, dir)
		young := s.NewDevice("bob", h, DeviceOptions{Home: copied})
		<-old.Client.Done()
		var closed *client.CloseError
		if err := old.Err(); !errors.As(err, &closed) || closed.Reason != stanza.ReasonDisplaced {
			t.Fatalf("the old session ended with %v, want displaced", err)
		}
		ann := s.NewDevice("ann", h, DeviceOptions{})
		must(t, ann.SayAll("bob", 10, 4))
		Eventually(t, "the new session has all", func() bool { return len(young.Texts()) == 10 })
		if n := len(old.Texts()); n != 0 {
			t.Errorf("the displaced session got %d messages", n)
		}
	})
}

// TestDuplicateSend sends one message twice with the same id, from a home and from a copy of it in which it is not acked: the second
// is acked too, and the receiver has it once.
func TestDuplicateSend(t *testing.T) {
	eachShape(t, Settings{}, func(t *testing.T, s *System) {
		dir := t.TempDir()
		home, err := client.OpenHome(dir)
		must(t, err)
		ann, bob := s.NewDevice("ann", nil, DeviceOptions{Home: home}), s.NewDevice("bob", nil, DeviceOptions{})
		must(t, ann.SayAll("bob", 1, 1)) // names and lists are known now
		s.KillAll()
		sent, err := ann.Say("bob", "once")
		must(t, err)
		copied := copyHome(t, dir)
		if n := copied.Unacked(); n != 1 {
			t.Fatalf("%d messages unacked in the copy", n)
		}
		s.StartAll()
		ann.Hurry()
		must(t, ann.Acked("bob", sent))
		ann.Close()
		again := s.NewDevice("ann", nil, DeviceOptions{Home: copied})
		ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
		defer cancel()
		must(t, again.Flush(ctx))
		must(t, again.SayAll("bob", 1, 1))
		bob.Hurry()
		Eventually(t, "three messages", func() bool { return len(bob.Texts()) >= 3 })
		if got := bob.Texts(); len(got) != 3 || got[1] != "once" {
			t.Errorf("bob got %q", got)
		}
		role := "offline"
		if s.Shape != Apart {
			role = "up"
		}
		if n := s.Metrics(role).Sum("linecard_offline_duplicates_total"); n != 1 {
			t.Errorf("%v duplicates, want 1", n)
		}
	})
}

// copyHome copies a home directory in use, as a restored backup would be, and opens the copy.
func copyHome(t *testing.T, dir string) *client.Home {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to+"/copy", os.DirFS(dir)))
	must(t, os.Chmod(to+"/copy", 0o700))
	home, err := client.OpenHome(to + "/copy")
	must(t, err)
	t.Cleanup(func() { home.Close() })
	return home
}

// TestSecondDevice links a second device, sends to both, and unlinks it again.
func TestSecondDevice(t *testing.T) {
	eachShape(t, Settings{}, func(t *testing.T, s *System) {
		h := NewHistory()
		ann, bob := s.NewDevice("ann", h, DeviceOptions{}), s.NewDevice("bob", h, DeviceOptions{})
		must(t, ann.SayAll("bob", 3, 3))

		ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
		defer cancel()
		home := client.MemoryHome()
		number, err := bob.LinkDevice(ctx, home.PublicKey())
		must(t, err)
		must(t, home.Adopt(client.Identity{Account: bob.Self().Account, Device: number, Handle: "bob"}))
		tablet := s.NewDevice("bob", h, DeviceOptions{Home: home})

		must(t, ann.SayAll("bob", 10, 4)) // ann's list is stale: refused whole, then sent to both
		Eventually(t, "both devices have the ten", func() bool { return len(bob.Texts()) == 13 && len(tablet.Texts()) == 10 })
		must(t, bob.SayAll("ann", 4, 4)) // the tablet gets copies
		Eventually(t, "ann and the tablet have bob's four", func() bool { return len(ann.Texts()) == 4 && len(tablet.Texts()) == 14 })
		Eventually(t, "one delivered receipt for each message", func() bool { return ann.Delivered() == 13 && bob.Delivered() == 4 })

		must(t, bob.UnlinkDevice(ctx, number))
		<-tablet.Client.Done()
		var closed *client.CloseError
		if err := tablet.Err(); !errors.As(err, &closed) || closed.Reason != stanza.ReasonUnlinked {
			t.Fatalf("the unlinked device ended with %v", err)
		}
		must(t, ann.SayAll("bob", 5, 5))
		Eventually(t, "bob has them", func() bool { return len(bob.Texts()) == 18 })
		if n := len(tablet.Texts()); n != 14 {
			t.Errorf("the unlinked device has %d messages, want 14", n)
		}
	})
}

// TestInvite registers by invite only.
func TestInvite(t *testing.T) {
	s := Start(t, Together, Settings{Router: "registration = \"invite\"\n"})
	var closed *client.CloseError
	if _, err := s.OpenDevice("ann", nil, DeviceOptions{}); !errors.As(err, &closed) || closed.Reason != stanza.ReasonRegistrationClosed {
		t.Fatalf("without invite: %v", err)
	}
	if _, err := s.OpenDevice("ann", nil, DeviceOptions{Invite: "guessed"}); !errors.As(err, &closed) || closed.Reason != stanza.ReasonBadInvite {
		t.Fatalf("with a guessed invite: %v", err)
	}
	out, code := s.Run("admin", "invite", "--admin", s.Admin("up"), "--ttl", "1h")
	if code != 0 {
		t.Fatalf("admin invite: %d %s", code, out)
	}
	ann := s.NewDevice("ann", nil, DeviceOptions{Invite: out})
	if _, err := s.OpenDevice("bob", nil, DeviceOptions{Invite: out}); !errors.As(err, &closed) || closed.Reason != stanza.ReasonBadInvite {
		t.Fatalf("with a used invite: %v", err)
	}
	if _, err := s.OpenDevice("ann", nil, DeviceOptions{Invite: out}); !errors.As(err, &closed) || closed.Reason != stanza.ReasonHandleTaken {
		t.Fatalf("a handle that is taken: %v", err)
	}
	ann.Close()
	s.NewDevice("ann", nil, DeviceOptions{Home: ann.Home}) // a known device needs none

	// One key, whatever it tries: a handle that is taken costs no invite, an invite makes one account, and the key that used it may ask
	// for that account again and again.
	out, _ = s.Run("admin", "invite", "--admin", s.Admin("up"), "--ttl", "1h")
	key, err := wire.GenerateKeypair(nil)
	must(t, err)
	for i, c := range []struct{ handle, want string }{
		{"ann", "closed: handle_taken"}, {"eve", ""}, {"eva", "closed: bad_invite"}, {"eve", ""}, {"eve", ""}, {"evi", "closed: bad_invite"},
	} {
		r, err := DialRaw(s.Server)
		must(t, err)
		r.Key = key
		reg := stanza.Register{Handle: []byte(c.handle), Invite: []byte(out)}
		must(t, r.Shake(reg.Append(nil)))
		if err := r.WaitBound(); fmt.Sprint(err) != cmp.Or(c.want, "<nil>") {
			t.Errorf("%d, %s: %v, want %q", i, c.handle, err, c.want)
		}
		r.Close()
	}
	Eventually(t, "two accounts of two invites", func() bool { return s.Metrics("up").Sum("linecard_router_accounts") == 2 }) // shown at ticks
}
