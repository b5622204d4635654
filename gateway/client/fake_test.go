package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flynn/noise"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// fake is a gateway whose answers a test writes. It lives in the test's synctest bubble; connections are net.Pipes.
type fake struct {
	t       *testing.T
	static  noise.DHKey
	root    Root
	signer  ed25519.PrivateKey
	cert    []byte
	conns   chan *fakeConn
	windows [2]uint32

	mu     sync.Mutex
	refuse error // of Dial
	dials  []time.Time
}

// refuseDials has Dial fail with err; nil ends it.
func (f *fake) refuseDials(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = err
}

// dialed returns when the client dialed.
func (f *fake) dialed() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.dials)
}

const (
	aliceAccount Account = 17
	bobAccount   Account = 34
	carolAccount Account = 51
)

func newFake(t *testing.T) *fake {
	t.Helper()
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	static, err := wire.GenerateKeypair(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, static: static, root: Root{"test", public}, signer: signer, conns: make(chan *fakeConn, 16), windows: [2]uint32{32, 256 << 10}}
	f.certify("test", signer)
	return f
}

func (f *fake) certify(cluster string, signer ed25519.PrivateKey) {
	c := wire.Certificate{Static: [32]byte(f.static.Public), Serial: 1, NotBefore: time.Now().Unix(), NotAfter: time.Now().Unix() + 86400*365, Cluster: cluster}
	f.cert = c.Sign(signer)
}

// dial is Options.Dial.
func (f *fake) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials = append(f.dials, time.Now())
	if f.refuse != nil {
		return nil, f.refuse
	}
	a, b := net.Pipe()
	f.conns <- &fakeConn{f: f, t: f.t, nc: b, sealer: wire.NewSealer(), stanzas: make(chan []byte, 4096)}
	return a, nil
}

func (f *fake) options(h *Home, handle string) Options {
	return Options{Home: h, Address: "fake:1", Handle: handle, Roots: []Root{f.root}, Dial: f.dial, jitter: func() float64 { return 0.5 }}
}

// start starts a client as alice on a memory home.
func (f *fake) start(change ...func(*Options)) *Client {
	f.t.Helper()
	o := f.options(MemoryHome(), "alice")
	for _, ch := range change {
		ch(&o)
	}
	c, err := Start(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// fakeConn is one connection as the gateway sees it.
type fakeConn struct {
	f       *fake
	t       *testing.T
	nc      net.Conn
	intro   stanza.View // bind or register
	keys    wire.Finish
	sealer  *wire.Sealer
	sent    uint64
	stanzas chan []byte // each a whole stanza, in order; closed at the end of the connection
}

func (f *fake) next() *fakeConn {
	f.t.Helper()
	select {
	case c := <-f.conns:
		return c
	case <-time.After(time.Hour):
		f.t.Fatal("no connection within an hour")
		return nil
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n, _ := wire.FrameLen(head[:])
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

// hello reads preamble and message 1 and answers message 2.
func (c *fakeConn) hello() (*wire.Responder, error) {
	pre := make([]byte, 4)
	if _, err := io.ReadFull(c.nc, pre); err != nil {
		return nil, err
	}
	frame, err := readFrame(c.nc)
	if err != nil {
		return nil, err
	}
	r := wire.NewResponder(c.f.static, c.f.cert, nil)
	if err := r.ReadHello(pre, frame); err != nil {
		return nil, err
	}
	reply, err := r.AppendReply(nil)
	if err != nil {
		return nil, err
	}
	_, err = c.nc.Write(reply)
	return r, err
}

// refuseHello answers message 1 with refused and closes.
func (c *fakeConn) refuseHello(reason Reason, after time.Duration) {
	io.ReadFull(c.nc, make([]byte, 4))
	readFrame(c.nc)
	c.nc.Write(wire.AppendRefused(nil, reason, after))
	c.nc.Close()
}

// accept does the handshake and begins to collect stanzas.
func (f *fake) accept() *fakeConn {
	f.t.Helper()
	c := f.next()
	r, err := c.hello()
	if err != nil {
		f.t.Fatal(err)
	}
	frame, err := readFrame(c.nc)
	if err != nil {
		f.t.Fatal(err)
	}
	if c.keys, err = r.ReadFinish(frame); err != nil {
		f.t.Fatal(err)
	}
	var rest []byte
	if c.intro, rest, err = stanza.Decode(c.keys.Payload); err != nil || len(rest) > 0 {
		f.t.Fatalf("payload of message 3: %v", err)
	}
	go c.collect()
	return c
}

func (c *fakeConn) collect() {
	defer close(c.stanzas)
	opener := wire.NewSealer()
	for n := uint64(0); ; n++ {
		body, err := readFrame(c.nc)
		if err != nil {
			return
		}
		plain, err := opener.Open(nil, &c.keys.RX, n, body)
		if err != nil {
			c.t.Errorf("frame %d: %v", n, err)
			return
		}
		err = stanza.DecodeFrame(plain, func(v stanza.View) error {
			c.stanzas <- bytes.Clone(v.Raw())
			return nil
		})
		if err != nil {
			c.t.Errorf("frame %d: %v", n, err)
			return
		}
	}
}

type appender interface{ Append([]byte) []byte }

// say sends stanzas in one frame.
func (c *fakeConn) say(list ...appender) {
	plain := []byte{0}
	for _, s := range list {
		plain = s.Append(plain)
	}
	c.sayRaw(plain)
}

func (c *fakeConn) sayRaw(plain []byte) {
	frame := c.sealer.AppendSealedFrame(nil, &c.keys.TX, c.sent, plain)
	c.sent++
	c.nc.Write(frame)
}

// bind accepts and answers bound as alice, device 1, alone.
func (f *fake) bind(change ...func(*stanza.Bound)) *fakeConn {
	f.t.Helper()
	c := f.accept()
	b := &stanza.Bound{Account: aliceAccount, Device: 1, Version: 1, Time: time.Now().UnixMilli(), WindowIDs: f.windows[0], WindowBytes: f.windows[1]}
	for _, ch := range change {
		ch(b)
	}
	c.say(b)
	return c
}

// hear returns the next stanza within d; ok is false when there is none or the connection ended.
func (c *fakeConn) hear(d time.Duration) (v stanza.View, ok bool) {
	select {
	case raw, open := <-c.stanzas:
		if !open {
			return v, false
		}
		v, _, err := stanza.Decode(raw)
		if err != nil {
			c.t.Fatal(err)
		}
		return v, true
	case <-time.After(d):
		return v, false
	}
}

func (c *fakeConn) want(tag stanza.Tag) stanza.View {
	c.t.Helper()
	v, ok := c.hear(time.Minute)
	if !ok || v.Tag != tag {
		c.t.Fatalf("got %v (%v), want %v", v.Tag, ok, tag)
	}
	return v
}

func (c *fakeConn) message(id, after uint64) stanza.MessageUp {
	c.t.Helper()
	m, err := stanza.ParseMessageUp(c.want(stanza.TagMessage))
	if err != nil {
		c.t.Fatal(err)
	}
	if m.ID != id || m.After != after {
		c.t.Fatalf("got message %d after %d, want %d after %d", m.ID, m.After, id, after)
	}
	if _, err := stanza.ValidCiphers(m.Body); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// quiet fails the test when something comes within d.
func (c *fakeConn) quiet(d time.Duration) {
	c.t.Helper()
	if v, ok := c.hear(d); ok {
		id, _ := v.Uint(stanza.AttrID)
		c.t.Fatalf("got %v (id %d), want nothing for %v", v.Tag, id, d)
	}
}

// ended waits for the end of the connection and returns how long that took.
func (c *fakeConn) ended() time.Duration {
	c.t.Helper()
	begin := time.Now()
	for {
		if _, ok := c.hear(time.Hour); !ok {
			break
		}
	}
	if d := time.Since(begin); d < time.Hour {
		return d
	}
	c.t.Fatal("the connection did not end")
	return 0
}

func ack(ids ...uint64) *stanza.Ack { return &stanza.Ack{IDs: stanza.AppendPacked(nil, ids)} }

func gap(id, last uint64) *stanza.Refused {
	return &stanza.Refused{ID: id, Reason: stanza.ReasonGap, Last: last, HasLast: true}
}

func keysOf(devices ...Device) []stanza.DeviceKey {
	keys := make([]stanza.DeviceKey, len(devices))
	for i, d := range devices {
		keys[i].Device = d
		for j := range keys[i].Key {
			keys[i].Key[j] = byte(rand.Uint32())
		}
	}
	return keys
}

func list(devices ...Device) stanza.DeviceList {
	return stanza.DeviceList{List: stanza.AppendDevices([]byte{}, keysOf(devices...))}
}

// The channels of the compressors are made here, since a bubble that made them would be the only one that may use them.
func init() {
	many := make([]Device, 32)
	for i := range many {
		many[i] = Device(i + 1)
	}
	v, _, err := stanza.Decode((&stanza.Refused{ID: 1, Reason: stanza.ReasonStaleDevices, Version: 1, Devices: list(many...)}).Append(nil))
	if err != nil {
		panic(err)
	}
	r, err := stanza.ParseRefused(v)
	if err != nil {
		panic(err)
	}
	if _, err := r.Devices.Keys(nil); err != nil {
		panic(err)
	}
}

// knowsBob gives a home bob's account and device list, so that a test need not answer look-ups.
func knowsBob(h *Home) {
	h.putContact(bobAccount, "bob")
	h.putList(bobAccount, deviceList{version: 1, devices: keysOf(1)})
}

// established starts a bound client that knows bob and whose stream to bob is proved by a first acked message, id 2048.
func (f *fake) established(change ...func(*Options)) (*Client, *fakeConn) {
	f.t.Helper()
	c := f.start(append(change, func(o *Options) { knowsBob(o.Home) })...)
	conn := f.bind()
	s := send(f.t, c, "bob", "first")
	conn.message(2048, 0)
	conn.say(ack(2048))
	acked(f.t, s)
	return c, conn
}

func send(t *testing.T, c *Client, to, text string) *Sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := c.Send(ctx, to, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func acked(t *testing.T, s *Sent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Wait(ctx); err != nil {
		t.Fatalf("message %d: %v", s.ID, err)
	}
}

var errRefusedDial = errors.New("connection refused")
