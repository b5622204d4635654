package client

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// value makes what bound carries: a psk of one byte, and a ticket that only this test could open.
func value(n byte) []byte {
	return append(bytes.Repeat([]byte{n}, wire.KeySize), "ticket "+string('0'+n)...)
}

func withTicket(n byte) func(*stanza.Bound) {
	return func(b *stanza.Bound) { b.Ticket = value(n) }
}

// resumeFrame reads the preamble and the resume frame of a client, and checks which ticket is in it.
func (c *fakeConn) resumeFrame(n byte) (body []byte) {
	c.t.Helper()
	if _, err := io.ReadFull(c.nc, make([]byte, wire.PreambleSize)); err != nil {
		c.t.Fatal(err)
	}
	body, err := readFrame(c.nc)
	if err != nil {
		c.t.Fatal(err)
	}
	ticket, _, err := wire.ParseResume(body)
	if err != nil || !bytes.Equal(ticket, value(n)[wire.KeySize:]) {
		c.t.Fatalf("the client shows %q, %v; want ticket %d", ticket, err, n)
	}
	return body
}

// resume accepts a resume with ticket n and answers bound, with ticket next in it, 0: none.
func (f *fake) resume(n, next byte) *fakeConn {
	f.t.Helper()
	c := f.resumed(n)
	bound := &stanza.Bound{Account: aliceAccount, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18}
	if next != 0 {
		bound.Ticket = value(next)
	}
	c.say(bound)
	return c
}

// resumed accepts a resume with ticket n, and the bind behind it.
func (f *fake) resumed(n byte) *fakeConn {
	f.t.Helper()
	c := f.next()
	psk := [wire.KeySize]byte(value(n))
	answer, keys, err := wire.AnswerResume(nil, wire.Preamble[:], c.resumeFrame(n), &psk, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	c.keys.RX, c.keys.TX = keys.RX, keys.TX
	c.nc.Write(answer)
	go c.collect()
	b, err := stanza.ParseBind(c.want(stanza.TagBind))
	if err != nil || b.Account != aliceAccount || b.Device != 1 || b.Interval == 0 {
		f.t.Fatalf("%+v, %v", b, err)
	}
	return c
}

// TestResume: each ticket serves one session, and a client without one does XX.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.start(func(o *Options) { knowsBob(o.Home) })
		defer c.Close()
		f.bind(withTicket(1)).nc.Close()
		f.resume(1, 2).nc.Close()
		conn := f.resume(2, 0)
		s := send(t, c, "bob", "by ticket")
		conn.message(2048, 0)
		conn.say(ack(2048))
		acked(t, s)
		if c.home.takeTicket() != nil {
			t.Error("a used ticket is kept")
		}
		conn.nc.Close()
		f.bind()
	})
}

// TestUseXX: a ticket that is not taken costs no connection, and the next bound brings another.
func TestUseXX(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.start()
		defer c.Close()
		f.bind(withTicket(1)).nc.Close()
		conn := f.next()
		said := wire.AppendFrame(bytes.Clone(wire.Preamble[:]), conn.resumeFrame(1))
		conn.nc.Write(wire.AppendUseXX(nil))
		r := wire.NewResponder(f.static, f.cert, nil)
		hello, err := readFrame(conn.nc)
		must(t, err)
		must(t, r.ReadHello(wire.AppendUseXX(said), hello))
		reply, err := r.AppendReply(nil)
		must(t, err)
		conn.nc.Write(reply)
		finish, err := readFrame(conn.nc)
		must(t, err)
		conn.keys, err = r.ReadFinish(finish)
		must(t, err)
		conn.say(&stanza.Bound{Account: aliceAccount, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18, Ticket: value(3)})
		synctest.Wait()
		conn.nc.Close()
		f.resume(3, 0)
	})
}

// TestHintsAboutTickets: nobody on the path can take a ticket away, nor keep a client out by spoiling every resume.
func TestHintsAboutTickets(t *testing.T) {
	for name, test := range map[string]struct {
		answer []byte
		again  bool // the next attempt shows the ticket too
	}{
		"overload":          {wire.AppendRefused(nil, stanza.ReasonOverload, time.Second), true},
		"worker_full":       {wire.AppendRefused(nil, stanza.ReasonWorkerFull, 0), true},
		"handshake_failed":  {wire.AppendRefused(nil, stanza.ReasonHandshakeFailed, 0), false},
		"unlinked":          {wire.AppendRefused(nil, stanza.ReasonUnlinked, 0), false},
		"nothing":           {nil, true},
		"handshake_timeout": {wire.AppendRefused(nil, stanza.ReasonHandshakeTimeout, 0), true},
		"garbage":           {[]byte{0, 3, 9, 9, 9}, false},
		"a forged answer":   {append([]byte{0, 49, 2}, make([]byte, 48)...), false},
		"half a use-XX":     {[]byte{0, 2, 3, 3}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				c := f.start()
				defer c.Close()
				f.bind(withTicket(1)).nc.Close()
				conn := f.next()
				conn.resumeFrame(1)
				conn.nc.Write(test.answer)
				conn.nc.Close()
				if !test.again {
					conn = f.next()
					conn.nc.SetDeadline(time.Now().Add(time.Second))
					if _, err := conn.hello(); err != nil {
						t.Fatalf("the next attempt is no XX: %v", err)
					}
					conn.nc.Close()
				}
				if !bytes.Equal(c.home.takeTicket(), value(1)) {
					t.Fatal("the ticket is gone")
				}
				f.resume(1, 0)
			})
		})
	}
}

// TestTicketLostTwice: after two connections without an answer a client does XX, and then shows the ticket again.
func TestTicketLostTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.start()
		defer c.Close()
		f.bind(withTicket(1)).nc.Close()
		for range 2 {
			conn := f.next()
			conn.resumeFrame(1)
			conn.nc.Close()
		}
		conn := f.next()
		if _, err := conn.hello(); err != nil {
			t.Fatalf("no XX: %v", err)
		}
		conn.nc.Close()
		f.resume(1, 0)
	})
}

// TestTicketOnDisk: it survives the process, costs no sync, and a damaged one is none.
func TestTicketOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	h := openHome(t, dir)
	lsn := h.lsn
	h.putTicket(value(4))
	if h.lsn != lsn {
		t.Error("a ticket makes the journal sync")
	}
	must(t, h.Close())
	path := filepath.Join(dir, "ticket")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	good, err := os.ReadFile(path)
	must(t, err)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		must(t, os.WriteFile(path, bad, 0o600))
		if h = openHome(t, dir); h.takeTicket() != nil {
			t.Fatalf("byte %d changed: %q", i, h.takeTicket())
		}
		must(t, h.Close())
	}
	for n := range len(good) {
		must(t, os.WriteFile(path, good[:n], 0o600))
		if h = openHome(t, dir); h.takeTicket() != nil {
			t.Fatalf("cut to %d: %q", n, h.takeTicket())
		}
		must(t, h.Close())
	}
	must(t, os.WriteFile(path, good, 0o600))
	if h = openHome(t, dir); !bytes.Equal(h.takeTicket(), value(4)) {
		t.Fatalf("%q", h.takeTicket())
	}
	h.putTicket(nil)
	must(t, h.Close())
	if h = openHome(t, dir); h.takeTicket() != nil {
		t.Error("a used ticket came back")
	}
	must(t, h.Close())
}

// TestTicketClosed: what the server itself says against a session by ticket ends that, also for the next client of the home.
func TestTicketClosed(t *testing.T) {
	for _, reason := range []Reason{stanza.ReasonDecryptFailed, stanza.ReasonForbidden} {
		bubble(t, func(t *testing.T, f *fake) {
			c := f.start()
			defer c.Close()
			f.bind(withTicket(1)).nc.Close()
			conn := f.resumed(1)
			conn.say(&stanza.Close{Reason: reason})
			conn.nc.Close()
			if reason.Retry() == stanza.RetryNever {
				<-c.Done()
			} else {
				f.bind()
				synctest.Wait()
			}
			if c.home.takeTicket() != nil {
				t.Errorf("%v: the ticket is kept", reason)
			}
		})
	}
}

// TestTicketKeptUntilBound: a session that the server cannot begin has not used the ticket, unless there is something wrong with that.
func TestTicketKeptUntilBound(t *testing.T) {
	for name, test := range map[string]struct {
		reason Reason // 0: the connection is lost
		times  int
		xx     bool // and then XX
	}{
		"no router":  {stanza.ReasonUnavailable, 5, false},
		"draining":   {stanza.ReasonDraining, 5, false},
		"no credit":  {stanza.ReasonBusy, 5, false},
		"no slot":    {stanza.ReasonWorkerFull, 5, false},
		"lost once":  {0, 1, false},
		"lost twice": {0, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				c := f.start()
				defer c.Close()
				f.bind(withTicket(1)).nc.Close()
				for range test.times {
					conn := f.resumed(1)
					if test.reason != 0 {
						conn.say(&stanza.Close{Reason: test.reason, RetryAfter: 1000})
					}
					conn.nc.Close()
				}
				if !bytes.Equal(c.home.takeTicket(), value(1)) {
					t.Fatal("the ticket is gone")
				}
				if test.xx {
					f.bind(withTicket(2)).nc.Close()
					f.resume(2, 0)
				} else {
					f.resume(1, 0)
				}
				synctest.Wait()
				if c.home.takeTicket() != nil {
					t.Error("a used ticket is kept")
				}
			})
		})
	}
}
