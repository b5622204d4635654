package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/flynn/noise"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// pingInterval is announced so that no ping is due while a benchmark runs.
const pingInterval = 15 * 60

// device is a client: a key, an account once it has registered, and a session while it is connected.
type device struct {
	s       *system
	key     noise.DHKey
	handle  string
	account stanza.Account
	number  stanza.Device
	version uint64

	nc    net.Conn
	keys  wire.Keys
	gone  chan struct{} // closed when the reader has ended
	hooks hooks

	// reader
	in      *bufio.Reader
	body    []byte
	opener  *wire.Sealer
	opened  uint64
	handled uint32 // deliveries since the last delivery_ack
	ackFrom uint32 // so many deliveries are acked together

	mu      sync.Mutex
	closing bool
	plain   []byte // what is to be said next, behind the flags byte
	sealer  *wire.Sealer
	sealed  uint64
	out     []byte
}

// hooks are what a device does besides acking deliveries; both run on its reader.
type hooks struct {
	stanza func(v stanza.View) error
	pause  func() // everything that had arrived is handled; the device speaks next
}

func newDevice(s *system, i int) (*device, error) {
	key, err := wire.GenerateKeypair(nil)
	return &device{s: s, key: key, handle: fmt.Sprintf("u%d", i), ackFrom: 1}, err
}

// connect makes a session: registers at first, binds later. It returns when the device is bound; the reader runs from then on.
func (d *device) connect() error {
	nc, err := net.DialTimeout("tcp", d.s.Server, 10*time.Second)
	if err != nil {
		return err
	}
	nc.SetDeadline(d.s.ends)
	d.nc, d.in = nc, bufio.NewReaderSize(nc, 4<<10)
	d.opener, d.sealer, d.opened, d.sealed = wire.NewSealer(), wire.NewSealer(), 0, 0
	d.plain, d.handled, d.closing = append(d.plain[:0], 0), 0, false
	if err := d.handshake(); err != nil {
		nc.Close()
		return err
	}
	if err := d.waitBound(); err != nil {
		nc.Close()
		return err
	}
	d.gone = make(chan struct{})
	go d.read()
	return nil
}

func (d *device) handshake() error {
	init := wire.NewInitiator(d.key, nil)
	preamble := append([]byte(nil), wire.Preamble[:]...)
	hello, err := init.AppendHello(preamble, wire.Preamble[:])
	if err != nil {
		return err
	}
	if _, err := d.nc.Write(hello); err != nil {
		return err
	}
	reply, err := d.readBody()
	if err != nil {
		return err
	}
	if kind, _ := wire.FrameKind(reply); kind == wire.KindRefused {
		reason, _, _ := wire.ParseRefused(reply)
		return fmt.Errorf("refused: %s", reason)
	}
	if err := init.ReadReply(reply, d.s.verify); err != nil {
		return err
	}
	var payload []byte
	if d.account != 0 {
		bind := stanza.Bind{Account: d.account, Device: d.number, Interval: pingInterval}
		payload = bind.Append(nil)
	} else {
		register := stanza.Register{Handle: []byte(d.handle), Interval: pingInterval}
		payload = register.Append(nil)
	}
	finish, keys, err := init.AppendFinish(nil, payload)
	if err != nil {
		return err
	}
	d.keys = keys
	_, err = d.nc.Write(finish)
	return err
}

// waitBound reads the session's first frame. What was packed behind bound is handled like anything later.
func (d *device) waitBound() error {
	plain, err := d.readPlain()
	if err != nil {
		return err
	}
	first := true
	return stanza.DecodeFrame(plain, func(v stanza.View) error {
		if !first {
			return d.handle1(v)
		}
		first = false
		if v.Tag == stanza.TagClose {
			c, _ := stanza.ParseClose(v)
			return fmt.Errorf("closed: %s", c.Reason)
		}
		b, err := stanza.ParseBound(v)
		if err == nil {
			d.account, d.number, d.version = b.Account, b.Device, b.Version
		}
		return err
	})
}

func (d *device) readBody() ([]byte, error) {
	var head [wire.LenSize]byte
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		return nil, err
	}
	n, _ := wire.FrameLen(head[:])
	if cap(d.body) < n {
		d.body = make([]byte, max(n, 512))
	}
	d.body = d.body[:n]
	_, err := io.ReadFull(d.in, d.body)
	return d.body, err
}

func (d *device) readPlain() ([]byte, error) {
	body, err := d.readBody()
	if err != nil {
		return nil, err
	}
	plain, err := d.opener.Open(body[:0], &d.keys.RX, d.opened, body)
	d.opened++
	return plain, err
}

// read is the reader: it handles what has arrived, then speaks once.
func (d *device) read() {
	defer close(d.gone)
	for {
		if d.in.Buffered() == 0 {
			if err := d.pause(); err != nil {
				d.ended(err)
				return
			}
		}
		plain, err := d.readPlain()
		if err == nil {
			err = stanza.DecodeFrame(plain, d.handle1)
		}
		if err != nil {
			d.ended(err)
			return
		}
	}
}

func (d *device) handle1(v stanza.View) error {
	switch {
	case v.Tag == stanza.TagClose:
		c, _ := stanza.ParseClose(v)
		return fmt.Errorf("closed: %s", c.Reason)
	case v.Tag == stanza.TagRefused:
		r, _ := stanza.ParseRefused(v)
		return fmt.Errorf("message %d refused: %s", r.ID, r.Reason)
	case v.Tag == stanza.TagRetry:
		return errors.New("asked to send again")
	case v.Tag.Delivery():
		d.handled++
	}
	if d.hooks.stanza == nil {
		return nil
	}
	return d.hooks.stanza(v)
}

// pause acks what was delivered and writes one frame with everything that is to be said.
func (d *device) pause() error {
	if d.hooks.pause != nil {
		d.hooks.pause()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handled >= d.ackFrom {
		ack := stanza.DeliveryAck{Count: d.handled}
		d.plain = ack.Append(d.plain)
		d.handled = 0
	}
	return d.flush()
}

// flush writes what is to be said, if anything. Caller holds mu.
func (d *device) flush() error {
	if len(d.plain) <= 1 {
		return nil
	}
	d.out = d.sealer.AppendSealedFrame(d.out[:0], &d.keys.TX, d.sealed, d.plain)
	d.sealed++
	d.plain = d.plain[:1]
	_, err := d.nc.Write(d.out)
	return err
}

// ended notes why the session ended, unless it was close.
func (d *device) ended(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closing {
		d.s.fail(fmt.Errorf("%s: %w", d.handle, err))
	}
}

// close ends the session.
func (d *device) close() {
	d.mu.Lock()
	d.closing = true
	d.mu.Unlock()
	d.nc.Close()
	<-d.gone
}
