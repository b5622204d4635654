package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
)

// down is a text message as a device gets it.
func down(from Account, device Device, id uint64, name, text string) *stanza.MessageDown {
	body := appendPayload(nil, &payload{from: name, to: "alice", written: time.Now(), text: text})
	return &stanza.MessageDown{ID: id, From: from, FromDevice: device, SentAt: 1_700_000_000_123, Body: body}
}

func receive(t *testing.T, c *Client) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	e, err := c.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func receiveText(t *testing.T, c *Client, want string) *Message {
	t.Helper()
	m, ok := receive(t, c).(*Message)
	if !ok || m.Text != want {
		t.Fatalf("got %+v, want %q", m, want)
	}
	return m
}

func nothing(t *testing.T, c *Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if e, err := c.Receive(ctx); err == nil {
		t.Fatalf("got %+v, want nothing", e)
	}
}

func done(t *testing.T, m *Message) {
	t.Helper()
	if err := m.Done(); err != nil {
		t.Fatal(err)
	}
}

func (c *fakeConn) deliveryAck(want uint32) {
	c.t.Helper()
	a, err := stanza.ParseDeliveryAck(c.want(stanza.TagDeliveryAck))
	if err != nil || a.Count != want {
		c.t.Fatalf("delivery_ack %d (%v), want %d", a.Count, err, want)
	}
}

func TestReceiveAckedOnlyAfterDone(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		conn.say(down(bobAccount, 1, 5, "bob", "one"), down(bobAccount, 1, 9, "bob", "two"))
		one, two := receiveText(t, c, "one"), receiveText(t, c, "two")
		if one.From != bobAccount || one.FromDevice != 1 || one.ID != 5 || one.SentAt.UnixMilli() != 1_700_000_000_123 || one.Claimed != "bob" || one.Own {
			t.Fatalf("got %+v", one)
		}
		conn.quiet(time.Second)
		done(t, two) // takes effect with the first
		conn.quiet(time.Second)
		done(t, one)
		done(t, one)
		conn.deliveryAck(2)
		conn.quiet(time.Second)
	})
}

func TestIDRule(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		conn.say(down(bobAccount, 1, 5, "bob", "one"))
		done(t, receiveText(t, c, "one"))
		conn.deliveryAck(1)
		conn.say(down(bobAccount, 1, 5, "bob", "one"), down(bobAccount, 1, 4, "bob", "zero"), down(bobAccount, 2, 4, "bob", "other device"))
		other := receiveText(t, c, "other device")
		conn.deliveryAck(2)
		done(t, other)
		conn.deliveryAck(1)
		nothing(t, c)
	})
}

// TestRedeliveryOfWhatIsNotDone: a message that the application holds is not shown again after a reconnect, and its Done acks the new
// delivery of it.
func TestRedeliveryOfWhatIsNotDone(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		conn.say(down(bobAccount, 1, 5, "bob", "one"), down(bobAccount, 1, 6, "bob", "two"), down(bobAccount, 1, 7, "bob", "three"))
		one := receiveText(t, c, "one")
		two := receiveText(t, c, "two")
		done(t, one)
		conn.deliveryAck(1)
		conn.nc.Close()
		conn = f.bind()
		conn.say(down(bobAccount, 1, 5, "bob", "one"), down(bobAccount, 1, 6, "bob", "two"), down(bobAccount, 1, 7, "bob", "three"), down(bobAccount, 1, 8, "bob", "four"))
		conn.deliveryAck(1)
		done(t, two)
		conn.deliveryAck(1)
		done(t, receiveText(t, c, "three"))
		done(t, receiveText(t, c, "four"))
		conn.want(stanza.TagDeliveryAck)
		nothing(t, c)
	})
}

func TestReceipts(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		conn.say(&stanza.ReceiptDown{Tag: stanza.TagDelivered, From: bobAccount, IDs: []byte{10, 1, 3}})
		r, ok := receive(t, c).(*Receipt)
		if !ok || r.Read || r.From != bobAccount || r.Name != "bob" || len(r.IDs) != 3 || r.IDs[2] != 14 {
			t.Fatalf("got %+v", r)
		}
		conn.deliveryAck(1)
		conn.say(&stanza.ReceiptDown{Tag: stanza.TagRead, From: bobAccount, IDs: []byte{10}}, down(bobAccount, 1, 5, "bob", "one"))
		conn.quiet(time.Second) // nobody received the receipt
		if r, ok := receive(t, c).(*Receipt); !ok || !r.Read {
			t.Fatalf("got %+v", r)
		}
		conn.deliveryAck(1)
		m := receiveText(t, c, "one")
		if err := c.MarkRead(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		up, err := stanza.ParseReadUp(conn.want(stanza.TagRead))
		ids := stanza.Packed(up.IDs)
		if id, _ := ids.Next(); err != nil || up.ID != 2049 || up.Account != bobAccount || up.Device != 1 || id != 5 {
			t.Fatalf("read %+v, %v", up, err)
		}
		conn.say(ack(2049))
		synctest.Wait()
		if c.home.Unacked() != 0 {
			t.Fatal("the receipt is in the home still")
		}
	})
}

func TestUnknownDeliveriesCount(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		plain := append([]byte{0}, 100, 0, 20, 0) // tag 100: a delivery of a later version; tag 20: something else
		conn.sayRaw(plain)
		conn.deliveryAck(1)
		conn.say(&stanza.MessageDown{ID: 1, From: bobAccount, FromDevice: 1, SentAt: 1, Body: []byte{99, 1, 2}})
		m := receive(t, c).(*Message)
		if m.Readable || len(m.Payload) != 3 {
			t.Fatalf("got %+v", m)
		}
	})
}

func TestFloodEndsTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		go func() {
			for id := uint64(1); id <= 4*32+1; id++ {
				conn.say(down(bobAccount, 1, id, "bob", "x"))
			}
		}()
		conn.ended()
		synctest.Wait()
		if _, err := c.Connected(); !errors.Is(err, errFlood) {
			t.Fatalf("got %v", err)
		}
		for range 4 * 32 { // what came is kept
			receive(t, c)
		}
		(<-f.conns).nc.Close()
	})
}

func TestSenderNames(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		conn.say(down(bobAccount, 1, 1, "bob", "honest"), down(carolAccount, 1, 1, "bob", "forged"), down(carolAccount, 1, 2, "nobody", "invented"), down(bobAccount, 1, 2, "bob", "again"))
		go func() {
			q, _ := stanza.ParseQuery(conn.want(stanza.TagQuery))
			conn.say(&stanza.Result{ID: q.ID, Account: bobAccount, Version: 1, Devices: list(1)})
			q, _ = stanza.ParseQuery(conn.want(stanza.TagQuery))
			if string(q.Handle) == "nobody" {
				conn.say(&stanza.QueryError{ID: q.ID, Reason: stanza.ReasonUnknownAccount})
			}
		}()
		for _, want := range []struct {
			text, name string
			verified   bool
		}{{"honest", "bob", true}, {"forged", "#51", false}, {"invented", "#51", false}, {"again", "bob", true}} {
			name, verified := c.Sender(t.Context(), receiveText(t, c, want.text))
			if name != want.name || verified != want.verified {
				t.Fatalf("%s: %q %v", want.text, name, verified)
			}
		}
		conn.say(down(99, 1, 1, "dave", "offline"))
		m := receiveText(t, c, "offline")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if name, verified := c.Sender(ctx, m); name != "dave" || verified {
			t.Fatalf("%q %v", name, verified)
		}
	})
}

func TestCopyFromAnUnknownOwnDevice(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		conn.say(down(aliceAccount, 2, 1, "alice", "from my other device"))
		m := receiveText(t, c, "from my other device")
		if !m.Own {
			t.Fatal("not recognised as own")
		}
		q, _ := stanza.ParseQuery(conn.want(stanza.TagQuery))
		if q.Op != stanza.OpDeviceList || q.Account != aliceAccount {
			t.Fatalf("query %+v", q)
		}
		conn.say(&stanza.Result{ID: q.ID, Account: aliceAccount, Version: 2, Devices: list(1, 2)})
		synctest.Wait()
		if !c.hasOthers() {
			t.Fatal("the other device is not known")
		}
	})
}

// TestCloseAcknowledges: what was handled is acked before the connection ends.
func TestCloseAcknowledges(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		home, err := OpenHome(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		c := f.start(func(o *Options) { o.Home = home })
		conn := f.bind()
		conn.say(down(bobAccount, 1, 1, "bob", "x"))
		done(t, receiveText(t, c, "x"))
		c.Close()
		conn.deliveryAck(1)
		conn.ended()
		if _, err := c.Receive(t.Context()); !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
		if err := home.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDurableBeforeAck: on disk a delivery is acked only when its mark is synced.
func TestDurableBeforeAck(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		home := openHome(t, t.TempDir())
		defer home.Close()
		c := f.start(func(o *Options) { o.Home = home })
		defer c.Close()
		conn := f.bind()
		for id := uint64(1); id <= 50; id++ {
			conn.say(down(bobAccount, 1, id, "bob", "x"), down(bobAccount, 1, id, "bob", "x"))
			m := receiveText(t, c, "x")
			done(t, m)
			for n := uint32(0); n < 2; {
				a, err := stanza.ParseDeliveryAck(conn.want(stanza.TagDeliveryAck))
				if n += a.Count; err != nil || home.durable() < m.lsn {
					t.Fatalf("message %d was acked before its mark was synced, %v", id, err)
				}
			}
		}
	})
}

func TestLinkAndUnlink(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		second := MemoryHome()
		linked := make(chan Device)
		go func() {
			d, err := c.LinkDevice(context.Background(), second.PublicKey())
			if err != nil {
				t.Error(err)
			}
			linked <- d
			if err := c.UnlinkDevice(context.Background(), d); err != nil {
				t.Error(err)
			}
			linked <- 0
		}()
		query := func(op stanza.Op) stanza.Query {
			q, err := stanza.ParseQuery(conn.want(stanza.TagQuery))
			if err != nil || q.Op != op {
				t.Fatalf("query %+v, %v, want op %v", q, err, op)
			}
			return q
		}
		q := query(stanza.OpLink)
		if [32]byte(q.Key) != second.PublicKey() {
			t.Fatal("another key")
		}
		conn.say(&stanza.Result{ID: q.ID, Device: 2, Version: 2})
		conn.say(&stanza.Result{ID: query(stanza.OpDeviceList).ID, Account: aliceAccount, Version: 2, Devices: list(1, 2)})
		d := <-linked
		if !c.hasOthers() {
			t.Fatal("no other device")
		}
		if err := second.Adopt(Identity{Account: aliceAccount, Device: d, Handle: "Alice"}); err != nil {
			t.Fatal(err)
		}
		c2, err := Start(f.options(second, ""))
		if err != nil {
			t.Fatal(err)
		}
		defer c2.Close()
		conn2 := f.accept()
		if b, err := stanza.ParseBind(conn2.intro); err != nil || b.Account != aliceAccount || b.Device != 2 {
			t.Fatalf("bind %+v, %v", b, err)
		}
		q = query(stanza.OpUnlink)
		if q.Device != 2 {
			t.Fatalf("unlink %+v", q)
		}
		conn.say(&stanza.Result{ID: q.ID, Version: 3})
		conn.say(&stanza.Result{ID: query(stanza.OpDeviceList).ID, Account: aliceAccount, Version: 3, Devices: list(1)})
		<-linked
		conn2.say(&stanza.Close{Reason: stanza.ReasonUnlinked})
		<-c2.Done()
		var closed *CloseError
		if !errors.As(c2.Err(), &closed) || closed.Reason != stanza.ReasonUnlinked {
			t.Fatalf("got %v", c2.Err())
		}
	})
}

func receiptFor(from Account, ids ...uint64) *stanza.ReceiptDown {
	return &stanza.ReceiptDown{Tag: stanza.TagDelivered, From: from, IDs: stanza.AppendPacked(nil, ids)}
}

// Nobody waits for the ack of a receipt: it goes with the next frame, or after a while.
func TestReceiptsAreAckedInCompany(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		defer c.Close()
		take := func(n int) {
			for range n {
				if _, ok := receive(t, c).(*Receipt); !ok {
					t.Fatal("no receipt")
				}
			}
		}
		conn.say(receiptFor(bobAccount, 1), receiptFor(bobAccount, 2))
		take(2)
		conn.quiet(lightWait - time.Millisecond)
		conn.deliveryAck(2)

		conn.say(receiptFor(bobAccount, 3)) // company: a message
		take(1)
		conn.quiet(lightWait / 2)
		send(t, c, "bob", "four")
		conn.message(2049, 0)
		conn.deliveryAck(1)
		conn.quiet(2 * lightWait)

		conn.say(receiptFor(bobAccount, 5), down(bobAccount, 1, 5, "bob", "five")) // company: an ack that somebody waits for
		take(1)
		done(t, receiveText(t, c, "five"))
		conn.deliveryAck(2)

		const enough = 32 / lightShare // of the window of 32
		for i := range uint64(enough) {
			conn.say(receiptFor(bobAccount, 10+i))
		}
		take(enough)
		conn.deliveryAck(enough)
	})
}

// In a small window acks do not wait: nothing could be delivered meanwhile.
func TestReceiptsDoNotFillASmallWindow(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.windows = [2]uint32{2, 1 << 16}
		c, conn := f.established()
		defer c.Close()
		conn.say(receiptFor(bobAccount, 1))
		if _, ok := receive(t, c).(*Receipt); !ok {
			t.Fatal("no receipt")
		}
		before := time.Now()
		conn.deliveryAck(1)
		if waited := time.Since(before); waited >= lightWait {
			t.Errorf("acked after %v", waited)
		}
	})
}

// Close says the acks that wait.
func TestCloseAcksReceipts(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c, conn := f.established()
		conn.say(receiptFor(bobAccount, 1))
		if _, ok := receive(t, c).(*Receipt); !ok {
			t.Fatal("no receipt")
		}
		go c.Close()
		before := time.Now()
		conn.deliveryAck(1)
		if waited := time.Since(before); waited >= lightWait {
			t.Errorf("acked after %v", waited)
		}
	})
}
