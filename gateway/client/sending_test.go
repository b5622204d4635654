package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
)

// bubble runs a scenario under the fake clock of a synctest bubble: time.Sleep in it takes no time, it moves the clock when everything
// else waits. The bubble also fails when a goroutine is left.
func bubble(t *testing.T, scenario func(t *testing.T, f *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { scenario(t, newFake(t)) })
}

func TestRegisterSendAck(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.accept()
		r, err := stanza.ParseRegister(conn.intro)
		if err != nil || string(r.Handle) != "alice" || r.ID != 0 || r.Interval != 60 {
			t.Fatalf("register %+v, %v", r, err)
		}
		conn.say(&stanza.Bound{Account: aliceAccount, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18, ID: 10_000})
		done := make(chan *Sent)
		go func() { done <- send(t, c, "Bob", "hello") }()
		q, err := stanza.ParseQuery(conn.want(stanza.TagQuery))
		if err != nil || q.Op != stanza.OpLookup || string(q.Handle) != "bob" {
			t.Fatalf("query %+v, %v", q, err)
		}
		conn.say(&stanza.Result{ID: q.ID, Account: bobAccount, Version: 3, Devices: list(1, 4)})
		m := conn.message(10_000+2048, 0)
		if m.Account != bobAccount || m.Version != 3 {
			t.Fatalf("message %+v", m)
		}
		d1, cipher, rest, _ := stanza.NextCipher(m.Body)
		d4, _, rest, _ := stanza.NextCipher(rest)
		p, err := parsePayload(cipher)
		if d1 != 1 || d4 != 4 || len(rest) > 0 || err != nil || p.text != "hello" || p.from != "alice" || p.to != "bob" {
			t.Fatalf("devices %d %d, payload %+v, %v", d1, d4, p, err)
		}
		s := <-done
		conn.say(ack(s.ID))
		acked(t, s)
		if n := c.home.Unacked(); n != 0 {
			t.Fatalf("%d unacked", n)
		}
	})
}

func TestIdsContinueAboveTheNotedOne(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		conn.nc.Close()
		conn = f.accept()
		b, err := stanza.ParseBind(conn.intro)
		if err != nil || b.Account != aliceAccount || b.Device != 1 || b.ID != 2048 {
			t.Fatalf("bind %+v, %v", b, err)
		}
		conn.say(&stanza.Bound{Account: aliceAccount, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18, ID: 5000})
		synctest.Wait()
		send(t, c, "bob", "x")
		conn.message(5000+2048, 0)
	})
}

func TestNothingBehindAnUnprovedMessage(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start(func(o *Options) { knowsBob(o.Home) })
		defer c.Close()
		conn := f.bind()
		for range 3 {
			send(t, c, "bob", "x")
		}
		conn.message(2048, 0)
		conn.quiet(4 * time.Second)
		conn.say(ack(2048))
		conn.message(2049, 0)
		conn.message(2050, 2049)
	})
}

func TestWindow(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		for range 40 {
			send(t, c, "bob", "x")
		}
		after := uint64(0)
		for id := uint64(2049); id < 2049+32; id++ {
			conn.message(id, after)
			after = id
		}
		conn.quiet(time.Second)
		conn.say(ack(2049, 2050))
		conn.message(2081, 2080)
		conn.message(2082, 2081)
		conn.quiet(time.Second)
	})
}

func TestWindowBytes(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.windows[1] = 100 << 10
		c, conn := f.established()
		defer c.Close()
		for range 3 {
			send(t, c, "bob", strings.Repeat("x", 45<<10))
		}
		conn.message(2049, 0)
		conn.message(2050, 2049)
		conn.quiet(time.Second)
		conn.say(ack(2049))
		conn.message(2051, 2050)
	})
}

// TestQueueFullKeepsOrder holds the rule that a planted bug breaks: after queue_full nothing later goes before the refused id.
func TestQueueFullKeepsOrder(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		var held []Notice
		c, conn := f.established(func(o *Options) {
			o.Notify = func(n Notice) {
				if n.Kind == NoticeHeld {
					held = append(held, n)
				}
			}
		})
		defer c.Close()
		for range 4 {
			send(t, c, "bob", "x")
		}
		conn.message(2049, 0)
		conn.message(2050, 2049)
		conn.message(2051, 2050)
		conn.message(2052, 2051)
		conn.say(&stanza.Refused{ID: 2049, Reason: stanza.ReasonQueueFull, RetryAfter: 20_000, Full: []byte{1}})
		synctest.Wait()
		begin := time.Now()
		conn.say(gap(2050, 2048), gap(2051, 2048), gap(2052, 2048))
		send(t, c, "bob", "later")
		conn.message(2049, 0)
		if d := time.Since(begin); d != 20*time.Second { // jitter is 0.5: the middle of the range
			t.Fatalf("sent again after %v", d)
		}
		conn.quiet(time.Second)
		conn.say(ack(2049))
		conn.message(2050, 0)
		conn.message(2051, 2050)
		conn.message(2052, 2051)
		conn.message(2053, 2052)
		if len(held) != 1 || held[0].ID != 2049 || held[0].Reason != stanza.ReasonQueueFull || held[0].RetryIn != 20*time.Second || held[0].Name != "bob" {
			t.Fatalf("notices %+v", held)
		}
	})
}

func TestRefusedInTheMiddle(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		for range 4 {
			send(t, c, "bob", "x")
		}
		for id := uint64(2049); id <= 2052; id++ {
			conn.message(id, max(id-1, 2048)*min(id-2049, 1))
		}
		conn.say(&stanza.Refused{ID: 2051, Reason: stanza.ReasonBusy, RetryAfter: 1000})
		conn.quiet(2 * time.Second) // 2049 and 2050 are unanswered still
		conn.say(ack(2049), ack(2050), gap(2052, 2050))
		conn.message(2051, 0)
		conn.quiet(time.Second)
		conn.say(ack(2051))
		conn.message(2052, 0)
	})
}

func TestAfterIsComputedAnewBehindAFinalRefusal(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		var sent []*Sent
		for range 4 {
			sent = append(sent, send(t, c, "bob", "x"))
		}
		for id := uint64(2049); id <= 2052; id++ {
			conn.want(stanza.TagMessage)
		}
		conn.say(&stanza.Refused{ID: 2050, Reason: stanza.ReasonForbidden})
		var refused *RefusedError
		if err := sent[1].Wait(t.Context()); !errors.As(err, &refused) || refused.ID != 2050 || refused.Reason != stanza.ReasonForbidden {
			t.Fatalf("got %v", err)
		}
		conn.say(gap(2051, 2049), gap(2052, 2049))
		conn.quiet(time.Second) // 2049 is unanswered
		conn.say(ack(2049))
		conn.message(2051, 0)
		conn.message(2052, 2051)
		conn.say(ack(2051, 2052))
		for _, i := range []int{0, 2, 3} {
			acked(t, sent[i])
		}
		if c.home.Unacked() != 0 {
			t.Fatal("the dead message is in the home still")
		}
	})
}

func TestGapResendsFromLast(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		for range 3 {
			send(t, c, "bob", "x")
		}
		for range 3 {
			conn.want(stanza.TagMessage)
		}
		conn.say(gap(2051, 2049)) // 2050 was lost on the way, without an answer; 2049's ack too
		conn.quiet(2 * time.Second)
		conn.say(ack(2049))
		conn.message(2050, 0)
		conn.message(2051, 2050)
	})
}

func TestStaleDevices(t *testing.T) {
	many := make([]Device, 32)
	for i := range many {
		many[i] = Device(i + 1)
	}
	for name, devices := range map[string][]Device{"plain": {1, 2, 9}, "zstd": many} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				c, conn := f.established()
				defer c.Close()
				send(t, c, "bob", "x")
				send(t, c, "bob", "y")
				conn.message(2049, 0)
				conn.message(2050, 2049)
				conn.say(&stanza.Refused{ID: 2049, Reason: stanza.ReasonStaleDevices, Version: 7, Devices: list(devices...)}, gap(2050, 2048))
				m := conn.message(2049, 0)
				n, err := stanza.ValidCiphers(m.Body)
				if m.Version != 7 || n != len(devices) || err != nil {
					t.Fatalf("version %d, %d ciphertexts, %v", m.Version, n, err)
				}
				conn.say(ack(2049))
				if m := conn.message(2050, 0); m.Version != 7 {
					t.Fatalf("version %d", m.Version)
				}
			})
		})
	}
}

func TestStaleDevicesWithoutListAsks(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		send(t, c, "bob", "x")
		conn.message(2049, 0)
		conn.say(&stanza.Refused{ID: 2049, Reason: stanza.ReasonStaleDevices})
		q, _ := stanza.ParseQuery(conn.want(stanza.TagQuery))
		if q.Op != stanza.OpDeviceList || q.Account != bobAccount {
			t.Fatalf("query %+v", q)
		}
		conn.quiet(time.Second)
		conn.say(&stanza.Result{ID: q.ID, Account: bobAccount, Version: 2, Devices: list(2)})
		if m := conn.message(2049, 0); m.Version != 2 {
			t.Fatalf("version %d", m.Version)
		}
	})
}

func TestResendWithoutAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		send(t, c, "bob", "x")
		conn.message(2049, 0)
		last := time.Now()
		for _, wait := range []int{5, 10, 20, 40} {
			v, ok := conn.hear(time.Minute)
			if ok && v.Tag == stanza.TagPing {
				conn.say(stanza.Pong{})
				v, ok = conn.hear(time.Minute)
			}
			if d := time.Since(last); !ok || v.Tag != stanza.TagMessage || d != time.Duration(wait)*time.Second {
				t.Fatalf("%v after %v, want a message after %d s", v.Tag, d, wait)
			}
			last = time.Now()
		}
		conn.say(ack(2049))
		conn.quiet(30 * time.Second)
	})
}

func TestRetryResendsEverythingInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		for range 3 {
			send(t, c, "bob", "x")
		}
		for range 2 {
			conn.message(2049, 0)
			conn.message(2050, 2049)
			conn.message(2051, 2050)
			conn.say(stanza.RetryAll{})
		}
		conn.message(2049, 0)
	})
}

// TestRetryEndsWaitForLeader: a message that was refused because nobody led goes at once when somebody does; other waits go on.
func TestRetryEndsWaitForLeader(t *testing.T) {
	for reason, ends := range map[stanza.Reason]bool{
		stanza.ReasonUnavailable: true, stanza.ReasonRetry: true, stanza.ReasonBusy: false, stanza.ReasonQueueFull: false,
	} {
		bubble(t, func(t *testing.T, f *fake) {
			c, conn := f.established()
			defer c.Close()
			send(t, c, "bob", "x")
			conn.message(2049, 0)
			conn.say(&stanza.Refused{ID: 2049, Reason: reason, RetryAfter: 1000})
			begin := time.Now()
			conn.say(stanza.RetryAll{})
			conn.message(2049, 0)
			if d := time.Since(begin); ends != (d < 100*time.Millisecond) {
				t.Errorf("%v: again after %v", reason, d)
			}
		})
	}
}

func TestReconnectResendsBeforeNew(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		send(t, c, "bob", "x")
		send(t, c, "bob", "y")
		conn.message(2049, 0)
		conn.message(2050, 2049)
		conn.nc.Close()
		conn = f.accept()
		send(t, c, "bob", "z")
		conn.say(&stanza.Bound{Account: aliceAccount, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18, ID: 2048})
		conn.message(2049, 0)
		conn.message(2050, 2049)
		conn.message(2051, 2050)
	})
}

func TestTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		if _, err := c.Send(t.Context(), "bob", strings.Repeat("x", 1<<16)); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("got %v", err)
		}
		s := send(t, c, "bob", strings.Repeat("x", 50<<10)) // for one device it fits, for two it does not
		behind := send(t, c, "bob", "small")
		conn.message(s.ID, 0)
		conn.want(stanza.TagMessage)
		conn.say(&stanza.Refused{ID: s.ID, Reason: stanza.ReasonStaleDevices, Version: 2, Devices: list(1, 2)})
		if err := s.Wait(t.Context()); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("got %v", err)
		}
		conn.say(gap(behind.ID, 2048))
		conn.message(behind.ID, 0)
	})
}

func TestOldMessageFails(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		s := send(t, c, "bob", "x")
		behind := make(chan *Sent, 1)
		go func() {
			time.Sleep(28 * 24 * time.Hour)
			behind <- send(t, c, "bob", "younger")
		}()
		begin := time.Now()
		ids := map[uint64]bool{}
		for s.Err() == nil {
			v, ok := conn.hear(time.Hour)
			switch {
			case !ok:
				t.Fatal("the connection ended")
			case v.Tag == stanza.TagPing:
				conn.say(stanza.Pong{})
			case v.Tag == stanza.TagMessage:
				id, _ := v.Uint(stanza.AttrID)
				ids[id] = s.Err() == nil // the younger one may come in the moment in which the old one is given up
				conn.say(&stanza.Refused{ID: id, Reason: stanza.ReasonQueueFull, RetryAfter: 600_000})
			}
		}
		if d := time.Since(begin); d < 29*24*time.Hour || d > 29*24*time.Hour+2*time.Hour {
			t.Fatalf("failed after %v", d)
		}
		if !errors.Is(s.Err(), ErrExpired) || (<-behind).Err() != nil || ids[s.ID+1] {
			t.Fatalf("got %v, ids %v", s.Err(), ids)
		}
	})
}

func TestCopiesForOwnDevices(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start(func(o *Options) { knowsBob(o.Home) })
		defer c.Close()
		conn := f.bind(func(b *stanza.Bound) { b.Version = 4 })
		q, _ := stanza.ParseQuery(conn.want(stanza.TagQuery))
		if q.Op != stanza.OpDeviceList || q.Account != aliceAccount {
			t.Fatalf("query %+v", q)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Ready(ctx); err == nil {
			t.Fatal("ready without its own device list")
		}
		conn.say(&stanza.Result{ID: q.ID, Account: aliceAccount, Version: 4, Devices: list(1, 3)})
		s := send(t, c, "bob", "x")
		conn.message(s.ID, 0)
		m := conn.message(s.ID+1, 0)
		d, cipher, rest, _ := stanza.NextCipher(m.Body)
		p, _ := parsePayload(cipher)
		if m.Account != aliceAccount || m.Version != 4 || d != 3 || len(rest) > 0 || p.to != "bob" {
			t.Fatalf("copy %+v for device %d, %+v", m, d, p)
		}
		// The other device goes: the copy has nobody left, and is done.
		conn.say(ack(s.ID), &stanza.Refused{ID: s.ID + 1, Reason: stanza.ReasonStaleDevices, Version: 5, Devices: list(1)})
		acked(t, s)
		conn.quiet(time.Second)
		if c.home.Unacked() != 0 {
			t.Fatal("the copy is in the home still")
		}
		s = send(t, c, "bob", "y")
		conn.message(s.ID, 0)
		conn.quiet(time.Second)
		if _, err := c.Send(t.Context(), "alice", "note to self"); !errors.Is(err, ErrNoDevice) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestOutboxIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established(func(o *Options) { o.OutboxBytes = 1000 })
		defer c.Close()
		first := send(t, c, "bob", strings.Repeat("x", 900))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Send(ctx, "bob", strings.Repeat("x", 900)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		conn.message(first.ID, 0)
		conn.say(ack(first.ID))
		send(t, c, "bob", strings.Repeat("x", 900))
	})
}
