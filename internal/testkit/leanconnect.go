package testkit

import (
	"bufio"
	"fmt"
	"net"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

func (d *Lean) dial() error {
	dial := d.Dialer
	if dial == nil {
		dial = func(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, 10*time.Second) }
	}
	nc, err := dial(d.site.addr)
	if err != nil {
		return err
	}
	if err := nc.SetDeadline(d.site.ends); err != nil {
		nc.Close()
		return err
	}
	d.Lock()
	defer d.Unlock()
	d.notLate()
	d.nc, d.in = nc, bufio.NewReaderSize(nc, 4<<10)
	d.opener, d.sealer, d.opened, d.sealed = wire.NewSealer(), wire.NewSealer(), 0, 0
	d.Plain, d.handled, d.heavy, d.due, d.closing = append(d.Plain[:0], 0), 0, false, 0, false
	return nil
}

// resume comes back by ticket, or by XX when the server wants that.
func (d *Lean) resume() error {
	psk, ticket, _ := wire.SplitTicketValue(d.Bound.Ticket)
	r := wire.NewResumer(nil)
	said, err := r.AppendResume(append([]byte(nil), wire.Preamble[:]...), wire.Preamble[:], ticket, &psk)
	if err != nil {
		return err
	}
	if _, err := d.nc.Write(said); err != nil {
		return err
	}
	answer, err := d.readAnswer()
	if err != nil {
		return err
	}
	if wire.ParseUseXX(answer) == nil {
		if err := d.helloAfter(wire.AppendUseXX(said), nil); err != nil {
			return err
		}
		return d.finish()
	}
	if d.keys, err = r.ReadAnswer(answer); err != nil {
		return err
	}
	d.Bound.Ticket = nil
	d.Lock()
	defer d.Unlock()
	d.Plain = append(d.Plain, d.introduction()...)
	return d.Flush()
}

// hello writes the preamble and message 1.
func (d *Lean) hello() error { return d.helloAfter(wire.Preamble[:], wire.Preamble[:]) }

// helloAfter writes what is unsaid of transcript, and message 1 behind it.
func (d *Lean) helloAfter(transcript, unsaid []byte) error {
	d.init = wire.NewInitiator(d.key, nil)
	hello, err := d.init.AppendHello(append([]byte(nil), unsaid...), transcript)
	if err != nil {
		return err
	}
	_, err = d.nc.Write(hello)
	return err
}

// readAnswer reads the body of a server's handshake frame; a refused one is an error.
func (d *Lean) readAnswer() ([]byte, error) {
	body, err := d.readBody()
	if err != nil {
		return nil, err
	}
	if kind, _ := wire.FrameKind(body); kind == wire.KindRefused {
		reason, _, _ := wire.ParseRefused(body)
		return nil, fmt.Errorf("refused: %s", reason)
	}
	return body, nil
}

// introduction says who the client is, or wants to be.
func (d *Lean) introduction() []byte {
	if d.Bound.Account != 0 {
		bind := stanza.Bind{Account: d.Bound.Account, Device: d.Bound.Device, Interval: leanPing}
		return bind.Append(nil)
	}
	register := stanza.Register{Handle: []byte(d.Handle), Interval: leanPing}
	return register.Append(nil)
}

// finish reads message 2 and writes message 3.
func (d *Lean) finish() error {
	reply, err := d.readAnswer()
	if err != nil {
		return err
	}
	if err := d.init.ReadReply(reply, d.site.verify); err != nil {
		return err
	}
	finish, keys, err := d.init.AppendFinish(nil, d.introduction())
	if err != nil {
		return err
	}
	d.keys, d.init = keys, nil
	_, err = d.nc.Write(finish)
	return err
}

// waitBound reads the session's first frame. What was packed behind bound is handled like anything later.
func (d *Lean) waitBound() error {
	plain, err := d.readPlain()
	if err != nil {
		return err
	}
	first := true
	return stanza.DecodeFrame(plain, func(v stanza.View) error {
		if !first || v.Tag == stanza.TagClose {
			return d.handle(v)
		}
		first = false
		b, err := stanza.ParseBound(v)
		if err == nil {
			d.Bound = b
			d.Bound.Ticket = append([]byte(nil), b.Ticket...)
		}
		return err
	})
}
