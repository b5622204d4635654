package testkit

import (
	"bytes"
	"fmt"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// resumeBurst is how often an account of the table may resume.
const resumeBurst = 3

// guest is an account of its own, which has had a session, and what that was given to resume with.
func (b *bad) guest() (stanza.Bound, error) {
	r := &bad{k: b.k}
	if err := r.connect(true); err != nil {
		return stanza.Bound{}, err
	}
	if len(r.Bound.Ticket) == 0 {
		return stanza.Bound{}, fmt.Errorf("bound without a ticket")
	}
	return r.Bound, r.Close()
}

func bindAs(a stanza.Account, d stanza.Device) []byte {
	return (&stanza.Bind{Account: a, Device: d}).Append(nil)
}

// resumeCases is what can be wrong with a resume whose ticket is good, and with a ticket. Each leaves behind the session that it is of.
func resumeCases() []badCase {
	ping := stanza.Ping{}.Append(nil)
	// resumed has the case say something behind message 2 of a good resume.
	resumed := func(name string, r stanza.Reason, say func(b *bad, of stanza.Bound) error) badCase {
		return badCase{name: name, seen: inClose, event: turnedAway(r), also: []event{left}, do: func(b *bad) error {
			of, err := b.guest()
			return firstErr(err, func() error { return b.Resume(of.Ticket) }, func() error { return say(b, of) })
		}}
	}
	// sentBack has the case show a ticket that is not taken, and go on with XX.
	sentBack := func(name, cause string, change func(value []byte)) badCase {
		return badCase{name: name, seen: skipped, also: []event{{daemon: "gateway", line: cause}, left, left}, do: func(b *bad) error {
			of, err := b.guest()
			if err != nil {
				return err
			}
			value := bytes.Clone(of.Ticket)
			change(value)
			return b.resumeThenRegister(wire.AppendResume(nil, value[wire.KeySize:], make([]byte, 48)))
		}}
	}
	return []badCase{
		sentBack("a ticket of another key", "unknown_key", func(v []byte) { v[wire.KeySize+1] ^= 1 }),
		sentBack("a ticket with a bit flipped", "malformed", func(v []byte) { v[len(v)-1] ^= 1 }),
		{name: "a ticket with another secret", seen: inRefusedFrame, event: turnedAway(stanza.ReasonHandshakeFailed), also: []event{left}, do: func(b *bad) error {
			of, err := b.guest()
			return firstErr(err, func() error {
				return b.write(preamble, wire.AppendResume(nil, of.Ticket[wire.KeySize:], make([]byte, 48)))
			})
		}},
		resumed("a ping for the bind", stanza.ReasonEarlyData, func(b *bad, _ stanza.Bound) error { return b.Say(ping) }),
		resumed("a ping behind the bind", stanza.ReasonEarlyData, func(b *bad, of stanza.Bound) error {
			return b.Say(bindAs(of.Account, of.Device), ping)
		}),
		resumed("a frame behind the bind", stanza.ReasonEarlyData, func(b *bad, of stanza.Bound) error {
			return b.write(b.Seal(bindAs(of.Account, of.Device)), b.Seal(ping))
		}),
		resumed("a bind of another account", stanza.ReasonForbidden, func(b *bad, of stanza.Bound) error {
			return b.Say(bindAs(b.k.crowd.members[0].Bound.Account, 1))
		}),
		resumed("a bind of another device", stanza.ReasonForbidden, func(b *bad, of stanza.Bound) error { return b.Say(bindAs(of.Account, 2)) }),
		resumed("a bind with from", stanza.ReasonForbidden, func(b *bad, of stanza.Bound) error {
			s := stanza.Begin(nil, stanza.TagBind)
			s.Uint(stanza.AttrAccount, uint64(of.Account))
			s.Uint(stanza.AttrDevice, uint64(of.Device))
			s.Uint(stanza.AttrFrom, 1)
			return b.Say(s.End(nil))
		}),
		{name: "a resume replayed with its bind", seen: judged, event: turnedAway(stanza.ReasonDecryptFailed), also: []event{left}, do: replayResume},
		{name: "an account that resumes all the time", seen: skipped, also: []event{{daemon: "gateway", line: "limit"}, left, left, left, left, left}, drops: true, do: tooOften},
	}
}

// replayResume says what an observer could have recorded. The server answers the resume, cannot open the bind, and binds nobody.
func replayResume(b *bad) error {
	of, err := b.guest()
	if err != nil {
		return err
	}
	psk, ticket, _ := wire.SplitTicketValue(of.Ticket)
	resume, err := wire.NewResumer(nil).AppendResume(bytes.Clone(preamble), preamble, ticket, &psk)
	if err != nil {
		return err
	}
	bind := wire.NewSealer().AppendSealedFrame(nil, new([wire.KeySize]byte), 0, append([]byte{0}, bindAs(of.Account, of.Device)...))
	if err := b.write(resume); err != nil {
		return err
	}
	if body, err := b.ReadBody(); err != nil || wire.Kind(body[0]) != wire.KindResume {
		return fmt.Errorf("answer %x, %w", body, err)
	}
	if err := b.write(bind); err != nil { // sealed with keys of another time
		return err
	}
	if body, err := b.ReadBody(); err != nil || len(body) <= wire.TagSize {
		return fmt.Errorf("%x, %w: want a close that only the client could read", body, err)
	}
	return nil
}

// tooOften resumes as often as an account may, and once more.
func tooOften(b *bad) error {
	of, err := b.guest()
	if err != nil {
		return err
	}
	for range resumeBurst {
		r := &bad{k: b.k}
		err := firstErr(r.connect(false), func() error { return r.Resume(of.Ticket) }, func() error {
			return r.Say(bindAs(of.Account, of.Device))
		}, r.WaitBound, r.Close)
		if err != nil {
			return err
		}
	}
	return b.resumeThenRegister(wire.AppendResume(nil, of.Ticket[wire.KeySize:], make([]byte, 48)))
}
