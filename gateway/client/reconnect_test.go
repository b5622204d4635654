package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// TestCloseReasons has every reason close a session that lasted, and looks at when the client comes back.
func TestCloseReasons(t *testing.T) {
	for _, r := range stanza.Reasons {
		if !r.Closes() {
			continue
		}
		t.Run(r.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				c := f.start()
				defer c.Close()
				conn := f.bind()
				time.Sleep(20 * time.Second)
				conn.say(&stanza.Close{Reason: r, RetryAfter: 7000})
				conn.ended()
				conn.nc.Close()
				closed := time.Now()
				if r.Retry() == stanza.RetryNever {
					<-c.Done()
					var why *CloseError
					if !errors.As(c.Err(), &why) || why.Reason != r {
						t.Fatalf("got %v", c.Err())
					}
					if _, err := c.Send(t.Context(), "bob", "x"); err == nil {
						t.Fatal("Send after the end")
					}
					time.Sleep(time.Hour)
					if len(f.dialed()) != 1 {
						t.Fatal("it came back")
					}
					return
				}
				f.bind()
				want := time.Duration(0)
				if r.Retry() == stanza.RetryLater {
					want = 7 * time.Second // jitter is 0.5: the middle of the range
				}
				if d := f.dialed()[1].Sub(closed); d != want {
					t.Fatalf("came back after %v, want %v", d, want)
				}
			})
		})
	}
}

func TestBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.refuseDials(errRefusedDial)
		c := f.start()
		defer c.Close()
		time.Sleep(time.Hour)
		at := func(i int) time.Duration { return f.dialed()[i].Sub(f.dialed()[i-1]) }
		want := []time.Duration{0, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
		for i, w := range want {
			if d := at(i + 1); d != w {
				t.Fatalf("retry %d after %v, want %v", i, d, w)
			}
		}
		n := len(f.dialed())
		if d := at(n - 1); d != 150*time.Second { // half of 5 minutes
			t.Fatalf("last wait %v", d)
		}
		c.Hurry() // a network change
		time.Sleep(2 * time.Second)
		if len(f.dialed()) < n+2 {
			t.Fatal("a network change did not start the schedule anew")
		}
		if up, err := c.Connected(); up || !errors.Is(err, errRefusedDial) {
			t.Fatalf("connected %v, %v", up, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Ready(ctx); !errors.Is(err, errRefusedDial) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestHurryAllTheTime: an application that sends on and on does not connect on and on.
func TestHurryAllTheTime(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.refuseDials(errRefusedDial)
		o := func(o *Options) { o.jitter = func() float64 { return 0.05 } }
		c := f.start(o)
		defer c.Close()
		for range 6000 {
			c.Hurry()
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(f.dialed()); n > 180 {
			t.Fatalf("%d attempts in a minute", n)
		}
	})
}

func TestSendCutsAWaitShortButNotTheServers(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		f.refuseDials(errRefusedDial)
		conn.nc.Close()
		time.Sleep(30 * time.Minute)
		n := len(f.dialed())
		f.refuseDials(nil)
		send(t, c, "bob", "x")
		conn = f.bind(func(b *stanza.Bound) { b.ID = 2048 })
		if d := time.Since(f.dialed()[n]); d > time.Second {
			t.Fatalf("came back %v late", d)
		}
		conn.want(stanza.TagMessage)
		conn.say(&stanza.Close{Reason: stanza.ReasonOverload, RetryAfter: 100_000})
		conn.ended()
		conn.nc.Close()
		n = len(f.dialed())
		time.Sleep(time.Second)
		send(t, c, "bob", "y")
		time.Sleep(90 * time.Second)
		if len(f.dialed()) != n {
			t.Fatal("it came back before retry-after")
		}
		time.Sleep(20 * time.Second)
		if len(f.dialed()) != n+1 {
			t.Fatal("it did not come back")
		}
	})
}

// TestHintsNeverStop: a refusal before the session is not authenticated, whatever it says.
func TestHintsNeverStop(t *testing.T) {
	for _, r := range []Reason{stanza.ReasonVersion, stanza.ReasonDisplaced, stanza.ReasonBadKey, stanza.ReasonDraining, stanza.ReasonWorkerFull, 9999} {
		t.Run(r.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				c := f.start()
				defer c.Close()
				key := c.home.PublicKey()
				for range 12 {
					f.next().refuseHello(r, 24*time.Hour)
				}
				if spent := f.dialed()[11].Sub(f.dialed()[0]); spent > 12*15*time.Minute {
					t.Fatalf("kept away for %v", spent)
				} else if r == stanza.ReasonWorkerFull && spent == 0 {
					t.Fatal("no end of immediate retries")
				}
				f.bind()
				synctest.Wait()
				if up, err := c.Connected(); !up || key != c.home.PublicKey() {
					t.Fatalf("not connected: %v", err)
				}
			})
		})
	}
}

// TestRefusedAfterMessage3: the plain answer to a message 3 that did not decrypt there.
func TestRefusedAfterMessage3(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.accept()
		conn.nc.Write(wire.AppendRefused(nil, stanza.ReasonHandshakeTimeout, 0))
		conn.ended()
		f.bind()
		synctest.Wait()
		if up, err := c.Connected(); !up {
			t.Fatal(err)
		}
	})
}

// TestRefusedBeforeTheHello: a server that refuses everybody says so and closes without reading.
func TestRefusedBeforeTheHello(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start(func(o *Options) {
			o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				nc, err := f.dial(ctx, network, address)
				return deafConn{nc}, err
			}
		})
		defer c.Close()
		conn := f.next()
		conn.nc.Write(wire.AppendRefused(nil, stanza.ReasonDraining, 20*time.Second))
		conn.nc.Close()
		time.Sleep(10 * time.Second)
		var hint *HintError
		if _, err := c.Connected(); !errors.As(err, &hint) || hint.Reason != stanza.ReasonDraining {
			t.Fatalf("got %v", err)
		}
	})
}

// deafConn fails writes, as a connection does that the other side has closed.
type deafConn struct{ net.Conn }

func (deafConn) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestIdentityIsNotShown: without a good certificate message 3 is not written.
func TestIdentityIsNotShown(t *testing.T) {
	other, signer, _ := ed25519.GenerateKey(nil)
	cases := map[string]struct {
		change func(f *fake, o *Options)
		check  func(err error) bool
	}{
		"no root": {func(f *fake, o *Options) { o.Roots = nil }, func(err error) bool {
			var noRoot *NoRootError
			return errors.As(err, &noRoot) && noRoot.Cluster == "test" && noRoot.Fingerprint != ""
		}},
		"other root": {func(f *fake, o *Options) { f.certify("test", signer) }, func(err error) bool {
			var bad *CertificateError
			return errors.As(err, &bad) && errors.Is(err, wire.ErrCertRoot) && bad.Fingerprint == wire.Fingerprint(other)
		}},
		"other cluster": {func(f *fake, o *Options) { f.certify("elsewhere", f.signer) }, func(err error) bool { return errors.Is(err, wire.ErrCertCluster) }},
		"expired":       {func(f *fake, o *Options) { time.Sleep(367 * 24 * time.Hour) }, func(err error) bool { return errors.Is(err, wire.ErrCertExpired) }},
		"malformed":     {func(f *fake, o *Options) { f.cert = f.cert[:20] }, func(err error) bool { return errors.Is(err, wire.ErrCertMalformed) }},
	}
	for name, k := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				c := f.start(func(o *Options) { k.change(f, o) })
				defer c.Close()
				conn := f.next()
				if _, err := conn.hello(); err != nil {
					t.Fatal(err)
				}
				if b, err := readFrame(conn.nc); !errors.Is(err, io.EOF) {
					t.Fatalf("the client went on: %d bytes, %v", len(b), err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := c.Ready(ctx); !k.check(err) {
					t.Fatalf("got %v", err)
				}
				select {
				case <-c.Done():
					if name != "no root" {
						t.Fatal("gave up")
					}
				case <-time.After(time.Second):
					if name == "no root" {
						t.Fatal("goes on without a root")
					}
				}
				for len(f.conns) > 0 {
					(<-f.conns).nc.Close()
				}
			})
		})
	}
}

func TestTrustFirstUse(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		home := MemoryHome()
		c := f.start(func(o *Options) { o.Home, o.Roots, o.TrustFirstUse = home, nil, true })
		f.bind()
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if r := home.Roots(); len(r) != 1 || r[0].Fingerprint() != f.root.Fingerprint() {
			t.Fatalf("pinned %v", r)
		}
		_, signer, _ := ed25519.GenerateKey(nil)
		f.certify("test", signer)
		c = f.start(func(o *Options) { o.Home, o.Roots, o.TrustFirstUse = home, nil, true })
		defer c.Close()
		conn := f.next()
		conn.hello()
		if _, err := readFrame(conn.nc); err == nil {
			t.Fatal("trusted a second root")
		}
	})
}

func TestPingAndDeadConnection(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		begin := time.Now()
		for range 3 {
			v, ok := conn.hear(2 * time.Minute)
			if !ok || v.Tag != stanza.TagPing || time.Since(begin) != time.Minute {
				t.Fatalf("%v after %v", v.Tag, time.Since(begin))
			}
			begin = time.Now()
			conn.say(stanza.Pong{})
		}
		if v, ok := conn.hear(2 * time.Minute); !ok || v.Tag != stanza.TagPing {
			t.Fatalf("got %v", v.Tag)
		}
		if d := conn.ended(); d != pongWait {
			t.Fatalf("gave up after %v", d)
		}
		f.bind()
		synctest.Wait()
		if up, _ := c.Connected(); !up {
			t.Fatal("not connected again")
		}
	})
}

// TestDeadConnectionShowsWhenSending: a message without an answer is followed by a ping, so that a dead connection shows within 20 s.
func TestDeadConnectionShowsWhenSending(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		send(t, c, "bob", "x")
		conn.message(2049, 0)
		if d := conn.ended(); d != resendFirst+pongWait {
			t.Fatalf("gave up after %v", d)
		}
		conn = f.bind()
		conn.message(2049, 0)
	})
}

func TestServerBindsAnotherAccount(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		conn.nc.Close()
		f.bind(func(b *stanza.Bound) { b.Account = bobAccount })
		<-c.Done()
		if err := c.Err(); !errors.Is(err, errFatal) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestBadStanzasEndTheConnection(t *testing.T) {
	for name, plain := range map[string][]byte{
		"flags": {1, 6, 0}, "empty": {}, "truncated": {0, 7, 9}, "not canonical": {0, 7, 0x80, 0}, "ack without ids": {0, 7, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				c := f.start()
				defer c.Close()
				conn := f.bind()
				time.Sleep(20 * time.Second)
				conn.sayRaw(plain)
				conn.ended()
				f.bind()
			})
		})
	}
}

func TestOptionFaults(t *testing.T) {
	registered := MemoryHome()
	if err := registered.Adopt(Identity{Account: 5, Device: 1, Handle: "alice"}); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"nothing": {}, "no address": {Home: MemoryHome()}, "no handle": {Home: MemoryHome(), Address: "x:1"},
		"bad handle": {Home: MemoryHome(), Address: "x:1", Handle: "a b"}, "short ping": {Home: registered, Address: "x:1", PingInterval: 1},
		"other name": {Home: registered, Address: "x:1", Handle: "bob"}, "long invite": {Home: registered, Address: "x:1", Invite: string(make([]byte, 65))},
	} {
		if c, err := Start(o); err == nil {
			c.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

// TestWriteAtTheEnd: a server that does not read holds Close up for a moment only, also when the write began with the end.
func TestWriteAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, _ *fake) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		done := make(chan struct{})
		close(done)
		f := newFrameConn(a)
		f.done = done
		begin := time.Now()
		if err := f.write([]byte{0}, begin); err == nil || time.Since(begin) > byeWrite {
			t.Fatalf("%v after %v", err, time.Since(begin))
		}
	})
}
