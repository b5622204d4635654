package router

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// register claims a handle for a session's static key, and binds the session when it gets it.
func (m *dirShard) register(gw *gateway, e *link.Envelope) {
	p := asked(wantRegister, gw, e)
	p.serial = m.nextSerial()
	key, rest, ok := clientKey(e.Payload)
	if !ok {
		m.closeAsked(p, stanza.ReasonInternal)
		return
	}
	p.key = key
	v, rest, err := stanza.Decode(rest)
	if err != nil || len(rest) != 0 {
		m.closeAsked(p, stanza.ReasonBadStanza)
		return
	}
	r, err := stanza.ParseRegister(v)
	if err != nil {
		m.closeAsked(p, stanza.ReasonBadStanza)
		return
	}
	handle, err := stanza.FoldHandle(r.Handle)
	if err != nil {
		m.closeAsked(p, stanza.ReasonBadHandle)
		return
	}
	if stanza.HandleShard(handle, m.shards) != m.id.Shard() {
		m.closeAsked(p, stanza.ReasonInternal)
		return
	}
	if m.group.StorageFull() {
		if owner, err := m.directory.owner([]byte(handle)); err == nil && owner == 0 {
			m.closeAsked(p, stanza.ReasonStorageFull)
			return
		}
	}
	p.id = max(e.ID, r.ID)
	create := m.cfg.Registration == RegistrationOpen || e.Flags&link.FlagInvited != 0
	m.propose(&command{op: opRegister, text: []byte(handle), key: key, create: create, id: p.id}, p)
}

// registered goes on after the commit.
func (m *dirShard) registered(p *pending, r result) {
	if r.reason != 0 {
		m.closeAsked(p, r.reason)
		return
	}
	p.account, p.device = r.account, r.device
	m.finishBind(p, r.noted)
}

// redeem uses up an invite for the session's static key and a handle that it may register; the gateway registers after that.
func (m *dirShard) redeem(gw *gateway, e *link.Envelope) {
	p := asked(wantRedeem, gw, e)
	key, rest, ok := clientKey(e.Payload)
	r := reader{b: rest}
	handle, err := stanza.FoldHandle(r.text(maxHandle))
	code := r.b
	if !ok || r.bad || err != nil || len(code) == 0 || len(code) > stanza.MaxInvite {
		m.redeemed(p, stanza.ReasonBadInvite)
		return
	}
	if m.group.StorageFull() {
		m.redeemed(p, stanza.ReasonStorageFull) // before the invite is used for a registration that would be refused
		return
	}
	m.propose(&command{op: opInviteRedeem, digest: inviteDigest(string(code)), key: key, text: []byte(handle)}, p)
}

func (m *dirShard) redeemed(p *pending, reason stanza.Reason) {
	if reason == 0 {
		m.metrics.redeemOK.Inc()
	}
	m.send(p.gw.to, link.Envelope{Kind: link.KindRedeemed, Group: m.id, Slot: p.slot, Gen: p.gen, Reason: reason, RetryAfter: m.wait(reason)})
}

// inviteDigest is what the log and the tables hold of a code: nobody who reads them can redeem it.
func inviteDigest(code string) (d [digestSize]byte) {
	sum := sha256.Sum256([]byte(code))
	copy(d[:], sum[:])
	return d
}

const (
	inviteMemory = 24 * time.Hour // an invite is remembered that long after its end, for a key that asks again
	inviteSweep  = time.Hour
)

// tickInvites forgets old invites, by an entry.
func (m *dirShard) tickInvites() {
	if m.now.Before(m.nextExpire) {
		return
	}
	m.nextExpire = m.now.Add(inviteSweep)
	m.proposeFacts() // in case the first attempt did not get into the log
	some, err := m.directory.hasInvites()
	if err != nil {
		return // the group is stopped
	}
	if until := m.group.Stamp() - inviteMemory.Milliseconds(); some && until > 0 {
		m.propose(&command{op: opInviteExpire, until: until}, nil)
	}
}

// invite proposes an invite that ends ttl from now; reply hears the outcome, at most once.
func (m *dirShard) invite(code string, ttl time.Duration, reply chan<- error) {
	if !m.leading || m.group == nil {
		reply <- errNotLeading
		return
	}
	if m.group.StorageFull() {
		reply <- errStorage
		return
	}
	until := m.group.Stamp() + ttl.Milliseconds()
	m.propose(&command{op: opInviteCreate, digest: inviteDigest(code), until: until}, &pending{want: wantInvite, reply: reply})
}

func inviteError(reason stanza.Reason) error {
	if reason == 0 {
		return nil
	}
	return fmt.Errorf("router: invite: %v", reason)
}

// maxInviteTTL bounds an invite's life.
const maxInviteTTL = 10 * 365 * 24 * time.Hour

// Invite makes an invite code, good for one account until ttl has passed (1 s to 10 years). The code's shard is one that this process
// leads; it is durable when Invite returns. Safe for concurrent use. When the context ends first, or the error says that the outcome
// is unknown, an invite that nobody knows may exist; it expires.
func (r *Router) Invite(ctx context.Context, ttl time.Duration) (code string, err error) {
	if ttl < time.Second || ttl > maxInviteTTL {
		return "", fmt.Errorf("router: invite: life of %v: want 1s to %v", ttl, maxInviteTTL)
	}
	local := r.leadingShards()
	if len(local) == 0 {
		return "", fmt.Errorf("router: invite: %w", errNotLeading)
	}
	var m *hosted
	for m == nil {
		code = newInviteCode()
		m = local[stanza.HandleShard(code, r.deps.Shards)]
	}
	reply := make(chan error, 1)
	if err := m.group.Call(ctx, func() { m.shard.invite(code, ttl, reply) }); err != nil {
		return "", fmt.Errorf("router: invite: %w", err)
	}
	select {
	case err = <-reply:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return "", errors.Join(errors.New("router: invite"), err)
	}
	return code, nil
}

// newInviteCode draws 128 bits and writes them in lower-case base32: 26 characters that survive reading aloud.
func newInviteCode() string {
	var raw [16]byte
	rand.Read(raw[:]) // never fails
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:]))
}
