package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"linecard.example/gateway/client/media"
	"linecard.example/internal/stanza"
)

// Options says what a Client is to do. Home and Address are needed; Handle too, unless the Home has an identity.
type Options struct {
	Home    *Home
	Address string // HOST:PORT of a gateway
	Handle  string // the name to register at first use; later it must be the Home's, or ""
	Invite  string // for registration by invite, at most 64 bytes; "" = none

	// Roots are pinned in the Home when the Client starts; nil when the Home has its pins. TrustFirstUse pins, in a Home without pins,
	// what the first server presents: whoever is on the path then is trusted for good.
	Roots         []Root
	TrustFirstUse bool

	// PingInterval is how long a session may be silent before the client pings; it is announced to the server, which waits 1.5 times
	// that (at least 60 s) and 30 s more. 15 s to 15 min. Longer saves power and notices a dead connection later. 0 = what the network
	// allows: 60 s at first, then longer for as long as pings are answered, up to 15 min; kept in the Home, and learnt anew
	// after NetworkChanged.
	PingInterval time.Duration

	// OutboxBytes bounds the payloads of unacked messages; beyond it Send waits. 0 = 16 MiB.
	OutboxBytes int64

	// Notify, if set, is told what happens: notices come one at a time and in order, on goroutines of the Client. It must return
	// quickly and must not call methods of the Client that wait.
	Notify func(Notice)

	// Media carries files; nil = one that trusts the system's roots. See media.Transport.
	Media *media.Transport

	Logger *slog.Logger                                                         // nil = none. Never content or keys
	Dial   func(ctx context.Context, network, address string) (net.Conn, error) // nil = TCP with keep-alive off

	jitter func() float64 // uniform in [0, 1); tests replace it
}

const (
	defaultPing   = time.Minute
	minPing       = 15 * time.Second
	maxPing       = 15 * time.Minute
	defaultOutbox = 16 << 20
)

// complete checks o and fills in the defaults.
func (o *Options) complete() error {
	switch {
	case o.Home == nil:
		return errors.New("client: Options.Home is missing")
	case o.Address == "":
		return errors.New("client: Options.Address is missing")
	case len(o.Invite) > stanza.MaxInvite:
		return fmt.Errorf("client: an invite has at most %d bytes", stanza.MaxInvite)
	case o.PingInterval != 0 && (o.PingInterval < minPing || o.PingInterval > maxPing):
		return fmt.Errorf("client: ping interval %v: want %v to %v", o.PingInterval, minPing, maxPing)
	}
	if err := o.checkName(); err != nil {
		return err
	}
	if o.OutboxBytes <= 0 {
		o.OutboxBytes = defaultOutbox
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Media == nil {
		o.Media = &media.Transport{}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: -1}).DialContext // our pings do that, with the server's knowledge
	}
	if o.jitter == nil {
		o.jitter = rand.Float64
	}
	return nil
}

// checkName folds Handle and holds it against the Home's identity.
func (o *Options) checkName() error {
	id, known := o.Home.Identity()
	if o.Handle == "" {
		if !known {
			return errors.New("client: Options.Handle is missing: the home is not registered yet")
		}
		return nil
	}
	folded, err := stanza.FoldHandle([]byte(o.Handle))
	if err != nil {
		return fmt.Errorf("%q: %w", o.Handle, ErrBadName)
	}
	if known && id.Handle != folded {
		return fmt.Errorf("%w: it is %s's, not %s's", ErrOtherName, id.Handle, folded)
	}
	o.Handle = folded
	return nil
}

// NoticeKind says what a Notice is about.
type NoticeKind int

// The notices.
const (
	NoticeConnected    NoticeKind = iota // the session is bound
	NoticeDisconnected                   // Err says why; the next attempt is after RetryIn
	NoticeStopped                        // Err says why; the Client does not connect again
	NoticeAcked                          // message ID to To is stored
	NoticeRefused                        // message ID to To is dead: Err (a *RefusedError, ErrExpired, ErrTooLarge, ErrNoDevice)
	NoticeHeld                           // message ID to To was refused with Reason for now; it goes again after RetryIn
)

// Notice tells an application what happened, besides what it waits for itself. Only messages of Send are reported, those of an earlier
// run included; copies for own devices and receipts are not.
type Notice struct {
	Kind    NoticeKind
	ID      uint64
	To      Account
	Name    string // of To, as far as it is known; "" otherwise
	Reason  Reason
	Err     error
	RetryIn time.Duration
}
