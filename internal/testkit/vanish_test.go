package testkit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flynn/noise"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// vanisher is a device that connects and vanishes, over and over: somewhere in the handshake, right behind it, or bound with messages
// under way in both directions; by closing its connection, by a reset, or by never saying anything again.
type vanisher struct {
	v    *vanishers
	key  noise.DHKey
	peer *vanisher // to whom it writes

	bound  stanza.Bound // of the first session; the peer reads it too
	lastID uint64
	silent []net.Conn // bound, and silent for ever: displaced by the next session
	cycle  [vanishStages][vanishWays]int
}

const (
	vanishHalfPreamble = iota
	vanishHello        // message 1 is said
	vanishFinish       // message 3 is said, bound not waited for
	vanishUnderWay     // bound, with messages sent and deliveries not acked
	vanishServed       // bound, with some deliveries acked
	vanishStages
)

const (
	vanishClose = iota
	vanishReset
	vanishSilently
	vanishWays
)

// keepSilent is how many silent connections a vanisher holds on to.
const keepSilent = 8

// vanishers are all of them.
type vanishers struct {
	addr   string
	all    []*vanisher
	stop   chan struct{}
	fault  func(error)
	wg     sync.WaitGroup
	ended  atomic.Int64 // silent connections that the server was seen to end
	turned atomic.Int64 // logins that the server had no time for
}

// newVanishers registers n devices; an even number.
func newVanishers(addr string, n int, fault func(error)) (*vanishers, error) {
	v := &vanishers{addr: addr, stop: make(chan struct{}), fault: fault}
	for i := range n {
		raw, err := DialRaw(addr)
		if err != nil {
			return nil, err
		}
		one := &vanisher{v: v, key: raw.Key}
		err = raw.Register(fmt.Sprintf("v%d", i))
		raw.Close()
		if err != nil {
			return nil, err
		}
		one.bound = raw.Bound
		v.all = append(v.all, one)
	}
	for i, one := range v.all {
		one.peer = v.all[i^1]
	}
	return v, nil
}

func (v *vanishers) start() {
	for _, one := range v.all {
		v.wg.Go(func() {
			if err := one.run(); err != nil {
				v.fault(fmt.Errorf("a vanishing client: %w", err))
			}
		})
	}
}

// rest stops the coming and going. Those who are silent stay so.
func (v *vanishers) rest() {
	close(v.stop)
	v.wg.Wait()
}

func (d *vanisher) run() error {
	for {
		select {
		case <-d.v.stop:
			return nil
		case <-time.After(time.Duration(200+rand.IntN(1000)) * time.Millisecond):
		}
		stage, way := rand.IntN(vanishStages), rand.IntN(vanishWays)
		raw, err := d.reach(stage)
		if later(err) {
			d.v.turned.Add(1)
			raw.Close()
			continue
		}
		if err != nil {
			return fmt.Errorf("at stage %d: %w", stage, err)
		}
		d.cycle[stage][way]++
		if err := d.vanish(raw, stage, way); err != nil {
			return fmt.Errorf("at stage %d, way %d: %w", stage, way, err)
		}
	}
}

// later reports whether the server only had no time: it says so to a client that a busy machine made late.
func later(err error) bool {
	var closed *Closed
	var refused *Refused
	return errors.As(err, &closed) && closed.Reason == stanza.ReasonUnavailable ||
		errors.As(err, &refused) && refused.Reason == stanza.ReasonHandshakeTimeout
}

// reach connects and goes as far as stage says.
func (d *vanisher) reach(stage int) (*Raw, error) {
	raw, err := DialRaw(d.v.addr)
	if err != nil {
		return nil, err
	}
	raw.Key = d.key
	switch stage {
	case vanishHalfPreamble:
		_, err = raw.Write(wire.Preamble[:2])
	case vanishHello:
		var hello []byte
		if hello, err = raw.Hello(); err == nil {
			_, err = raw.Write(hello)
		}
	case vanishFinish:
		err = raw.Shake(d.bind())
	case vanishUnderWay:
		if err = d.login(raw); err == nil {
			err = d.burst(raw)
		}
	case vanishServed:
		if err = d.login(raw); err == nil {
			err = d.serve(raw, 1+rand.IntN(20), 200*time.Millisecond)
		}
	}
	return raw, err
}

func (d *vanisher) bind() []byte {
	b := stanza.Bind{Account: d.bound.Account, Device: d.bound.Device, ID: d.lastID}
	return b.Append(nil)
}

func (d *vanisher) login(raw *Raw) error {
	if err := raw.Shake(d.bind()); err != nil {
		return err
	}
	if err := raw.WaitBound(); err != nil {
		return err
	}
	d.lastID = max(d.lastID, raw.Bound.ID+2048)
	return nil
}

// burst says some messages in one frame. Whether they arrive is nobody's concern.
func (d *vanisher) burst(raw *Raw) error {
	var messages [][]byte
	for range 1 + rand.IntN(8) {
		d.lastID++
		body := stanza.AppendCipher(nil, d.peer.bound.Device, make([]byte, 2*smallBody))
		m := stanza.MessageUp{ID: d.lastID, Account: d.peer.bound.Account, Version: d.peer.bound.Version, Body: body}
		messages = append(messages, m.Append(nil))
	}
	return raw.Say(messages...)
}

// serve acks up to n deliveries, for as long as some come.
func (d *vanisher) serve(raw *Raw, n int, patience time.Duration) error {
	for range n {
		if err := raw.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		v, err := raw.Next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		case v.Tag == stanza.TagClose:
			return closedBy(v)
		case !v.Tag.Delivery():
			continue
		}
		ack := stanza.DeliveryAck{Count: 1}
		if err := raw.Say(ack.Append(nil)); err != nil {
			return err
		}
	}
	return nil
}

func (d *vanisher) vanish(raw *Raw, stage, way int) error {
	switch {
	case way == vanishClose:
		return raw.Close()
	case way == vanishReset:
		if err := raw.Conn.(*net.TCPConn).SetLinger(0); err != nil {
			return err
		}
		return raw.Close()
	case stage < vanishFinish:
		d.v.wg.Go(func() { d.v.outlast(raw) })
		return nil
	}
	d.silent = append(d.silent, raw.Conn)
	if len(d.silent) > keepSilent {
		d.silent[0].Close()
		d.silent = d.silent[1:]
	}
	return nil
}

// outlast waits until the server ends a connection that says nothing any more.
func (v *vanishers) outlast(raw *Raw) {
	defer raw.Close()
	_ = raw.SetReadDeadline(time.Now().Add(waitLimit))
	var b [512]byte
	for {
		_, err := raw.Read(b[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			v.fault(errors.New("a connection that stopped in its handshake was not ended by the server"))
			return
		}
		if err != nil {
			v.ended.Add(1)
			return
		}
	}
}

// leave lets each device take everything that waits for it, and go.
func (v *vanishers) leave() error {
	errs := make(chan error, len(v.all))
	for _, d := range v.all {
		go func() { errs <- d.leave() }()
	}
	var all []error
	for range v.all {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func (d *vanisher) leave() error {
	raw, err := DialRaw(d.v.addr)
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.Key = d.key
	if err := d.login(raw); later(err) {
		return d.leave()
	} else if err != nil {
		return err
	}
	for _, nc := range d.silent {
		nc.Close()
	}
	d.silent = nil
	return d.serve(raw, 1<<20, 2*time.Second)
}

// cycles counts how often they came, by stage and by way.
func (v *vanishers) cycles() (sum [vanishStages][vanishWays]int) {
	for _, d := range v.all {
		for s := range sum {
			for w := range sum[s] {
				sum[s][w] += d.cycle[s][w]
			}
		}
	}
	return sum
}
