package router

import (
	"errors"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

func TestLookup(t *testing.T) {
	h, s, _, ann, bob := pair(t, nil)
	handle := handleIn("ann")
	r := h.result(h.query(s, bob, stanza.Query{ID: 3, Op: stanza.OpLookup, Handle: []byte("A" + handle[1:])}))
	keys, err := r.Devices.Keys(nil)
	if err != nil || r.ID != 3 || r.Account != ann.account || r.Version != 2 || string(r.Handle) != handle || len(keys) != 2 || keys[1].Key != key(3) {
		t.Errorf("%+v, %v, %v", r, keys, err)
	}
	r = h.result(h.query(s, bob, stanza.Query{ID: 4, Op: stanza.OpDeviceList, Account: ann.account}))
	if keys, err = r.Devices.Keys(nil); err != nil || r.Account != ann.account || r.Version != 2 || r.Handle != nil || len(keys) != 2 {
		t.Errorf("%+v, %v, %v", r, keys, err)
	}
	for _, test := range []struct {
		name   string
		q      stanza.Query
		reason stanza.Reason
	}{
		{"nobody's handle", stanza.Query{ID: 5, Op: stanza.OpLookup, Handle: []byte(handleIn("zoe"))}, stanza.ReasonUnknownAccount},
		{"no handle", stanza.Query{ID: 5, Op: stanza.OpLookup}, stanza.ReasonUnknownAccount},
		{"unknown account", stanza.Query{ID: 5, Op: stanza.OpDeviceList, Account: ann.account + 40*testShards}, stanza.ReasonUnknownAccount},
		{"no account", stanza.Query{ID: 5, Op: stanza.OpDeviceList}, stanza.ReasonUnknownAccount},
		{"other shard", stanza.Query{ID: 5, Op: stanza.OpDeviceList, Account: ann.account + 1}, stanza.ReasonInternal},
		{"operation of the future", stanza.Query{ID: 5, Op: 99}, stanza.ReasonForbidden},
		{"reserved operation", stanza.Query{ID: 5, Op: stanza.OpPrekeys}, stanza.ReasonForbidden},
		{"link without key", stanza.Query{ID: 5, Op: stanza.OpLink}, stanza.ReasonForbidden},
		{"link to another account", stanza.Query{ID: 5, Op: stanza.OpLink, Account: ann.account, Key: make([]byte, 32)}, stanza.ReasonForbidden},
		{"unlink of another account", stanza.Query{ID: 5, Op: stanza.OpUnlink, Account: ann.account, Device: 1}, stanza.ReasonForbidden},
		{"unlink nothing", stanza.Query{ID: 5, Op: stanza.OpUnlink}, stanza.ReasonForbidden},
		{"unlink what never was", stanza.Query{ID: 5, Op: stanza.OpUnlink, Device: 2}, stanza.ReasonForbidden},
	} {
		if e := h.queryError(h.query(s, bob, test.q)); e.Reason != test.reason || e.ID != 5 || !e.Reason.Refuses() {
			t.Errorf("%s: %v, want %v", test.name, e.Reason, test.reason)
		}
	}
	h.g.stale = true
	if e := h.queryError(h.query(s, bob, stanza.Query{ID: 6, Op: stanza.OpLookup, Handle: []byte(handleIn("zoe"))})); e.Reason != stanza.ReasonUnavailable {
		t.Errorf("a stale leader answered %v", e.Reason)
	}
	s.nothing(t)
}

func TestLookupLimits(t *testing.T) {
	h, s, _, ann, bob := pair(t, func(c *Config) { c.LookupBurst, c.LookupRate, c.LookedUpBurst, c.LookedUpRate = 3, 1, 4, 0.5 })
	list := stanza.Query{ID: 1, Op: stanza.OpDeviceList, Account: ann.account}
	for range 3 {
		h.result(h.query(s, bob, list))
	}
	if e := h.queryError(h.query(s, bob, list)); e.Reason != stanza.ReasonBusy || e.RetryAfter != 1000 {
		t.Errorf("asker: %v after %d", e.Reason, e.RetryAfter)
	}
	h.result(h.query(s, ann, list)) // her own list
	other := bob
	other.account += 5 // from any shard
	h.result(h.query(s, other, list))
	if e := h.queryError(h.query(s, other, list)); e.Reason != stanza.ReasonBusy || e.RetryAfter != 2000 {
		t.Errorf("asked: %v after %d", e.Reason, e.RetryAfter)
	}
	h.tick(2 * time.Second)
	h.result(h.query(s, other, list))
}

func TestLink(t *testing.T) {
	h, s, _, ann, bob := pair(t, nil)
	k := key(3)
	again := h.result(h.query(s, ann, stanza.Query{ID: 8, Op: stanza.OpLink, Key: k[:]}))
	if again.Device != 2 || again.Version != 2 {
		t.Errorf("linked again as device %d, version %d", again.Device, again.Version)
	}
	for i := range stanza.MaxDevices - 1 {
		h.link(s, bob, byte(50+i))
	}
	k = key(200)
	if e := h.queryError(h.query(s, bob, stanza.Query{ID: 9, Op: stanza.OpLink, Key: k[:]})); e.Reason != stanza.ReasonTooManyDevices {
		t.Errorf("device 33: %v", e.Reason)
	}
	stranger := ann
	stranger.device = 9
	if e := h.queryError(h.query(s, stranger, stanza.Query{ID: 9, Op: stanza.OpLink, Key: k[:]})); e.Reason != stanza.ReasonForbidden {
		t.Errorf("by a device that is none: %v", e.Reason)
	}
	h.g.outcome = shard.Unknown
	if e := h.queryError(h.query(s, ann, stanza.Query{ID: 9, Op: stanza.OpLink, Key: k[:]})); e.Reason != stanza.ReasonRetry {
		t.Errorf("unknown outcome: %v", e.Reason)
	}
	h.g.full = true
	if e := h.queryError(h.query(s, ann, stanza.Query{ID: 9, Op: stanza.OpLink, Key: k[:]})); e.Reason != stanza.ReasonBusy || e.RetryAfter != 1000 {
		t.Errorf("no room: %v after %d", e.Reason, e.RetryAfter)
	}
}

func TestUnlink(t *testing.T) {
	h, s, q, ann, bob := pair(t, nil)
	second := client{account: ann.account, device: 2, key: key(3), slot: 9}
	h.send(s, h.bindEnv(second, 9, 0))
	s.take(t, link.KindBound)
	q.got = nil
	h.g.hold = true
	h.send(s, link.Envelope{Kind: link.KindQuery, Slot: 5, Gen: 1, Account: ann.account, Device: 1, ID: 4,
		Payload: (&stanza.Query{ID: 4, Op: stanza.OpUnlink, Device: 2}).Append(nil)})
	s.nothing(t)
	q.nothing(t)
	h.g.hold = false
	h.settle()
	if r := h.result(s.take(t, link.KindResult)); r.Device != 2 || r.Version != 3 {
		t.Errorf("device %d, version %d", r.Device, r.Version)
	}
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonUnlinked || e.Slot != 9 {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
	q.take(t, link.KindDetach)
	if e := q.take(t, link.KindDropQueue); e.Account != ann.account || e.Device != 2 || e.Group != h.m.queue {
		t.Errorf("drop %+v", e)
	}
	h.send(s, h.bindEnv(second, 10, 0))
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonUnlinked {
		t.Errorf("bound again: %v", e.Reason)
	}
	if r := h.refused(s, messageEnv(bob, 1, ann.account, 2, 1, 2)); r.Reason != stanza.ReasonStaleDevices || r.Version != 3 {
		t.Errorf("%v, version %d", r.Reason, r.Version)
	}
	// Unlinking it again changes nothing; the key, linked again, gets a new number.
	if r := h.result(h.query(s, ann, stanza.Query{ID: 5, Op: stanza.OpUnlink, Device: 2})); r.Version != 3 {
		t.Errorf("version %d", r.Version)
	}
	if c := h.link(s, ann, 3); c.device != 3 {
		t.Errorf("linked again as device %d", c.device)
	}

	// The drop is asked for until it is confirmed, also after a restart, and the confirmation is durable.
	h.tick(500 * time.Millisecond)
	h.tick(time.Second)
	q.take(t, link.KindDropQueue)
	h.restart()
	q = h.offline(2)
	h.tick(time.Second)
	q.take(t, link.KindDropQueue)
	h.send(q, link.Envelope{Kind: link.KindQueueDropped, Account: ann.account, Device: 2})
	h.tick(time.Minute)
	h.restart()
	q = h.offline(3)
	h.tick(time.Minute)
	q.take(t, link.KindAttachDone)
	q.nothing(t)
}

func TestUnlinkSelf(t *testing.T) {
	h, s, _, ann, _ := pair(t, nil)
	h.result(h.query(s, ann, stanza.Query{ID: 5, Op: stanza.OpUnlink, Device: 1})) // the answer comes before the close
	if e := s.take(t, link.KindClose); e.Slot != 5 || e.Reason != stanza.ReasonUnlinked {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
	h.send(s, h.registerEnv(handleIn("ann"), key(1), 5))
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonHandleTaken {
		t.Errorf("an unlinked key got the handle back: %v", e.Reason)
	}
}

func TestUnlinkIdle(t *testing.T) {
	h, s, q, _, bob := pair(t, nil)
	idle := link.Envelope{Kind: link.KindUnlinkIdle, Account: bob.account, Device: 1}
	h.send(q, idle)
	q.nothing(t) // he is bound
	h.send(s, link.Envelope{Kind: link.KindUnbind, Slot: 6, Gen: 1, Account: bob.account, Device: 1})
	q.take(t, link.KindDetach)
	h.send(q, idle)
	q.nothing(t) // another gateway may have him: they have not re-sent their bindings
	h.send(s, link.Envelope{Kind: link.KindRebindDone, Term: h.m.term})
	q.take(t, link.KindAttachDone)
	h.send(q, idle)
	if e := q.take(t, link.KindDropQueue); e.Account != bob.account {
		t.Errorf("%+v", e)
	}
	h.send(q, idle)
	q.nothing(t)
	if r := h.refused(s, messageEnv(bob, 1, bob.account, 2, 1)); r.Reason != stanza.ReasonUnknownAccount {
		t.Errorf("message to an account without devices: %v", r.Reason)
	}
	// It was his only device: nobody else gets the handle, but the same key comes back, as a new device.
	h.send(s, h.registerEnv(handleIn("bob"), key(9), 7))
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonHandleTaken {
		t.Errorf("%v", e.Reason)
	}
	if c := h.register(s, handleIn("bob"), 2, 8); c.account != bob.account || c.device != 2 {
		t.Errorf("back as %d.%d", c.account, c.device)
	}
	if r := h.refused(s, messageEnv(bob, 1, bob.account, 1, 1)); r.Reason != stanza.ReasonStaleDevices || r.Version != 3 {
		t.Errorf("%v, version %d", r.Reason, r.Version)
	}
}

// What commits after the leadership has ended, as when the process stops, is answered and leaves nothing behind.
func TestCommittedAfterFollow(t *testing.T) {
	h, s, q, ann, bob := pair(t, nil)
	h.g.hold = true
	h.send(s, link.Envelope{Kind: link.KindQuery, Slot: ann.slot, Gen: 1, Account: ann.account, Device: ann.device, ID: 3,
		Payload: (&stanza.Query{ID: 3, Op: stanza.OpUnlink, Device: ann.device}).Append(nil)})
	h.send(s, h.bindEnv(bob, 8, 9000))
	h.send(s, h.registerEnv(handleIn("cleo"), key(5), 9))
	h.m.Follow()
	h.g.hold = false
	h.settle()
	if r := h.result(s.take(t, link.KindResult)); r.Version != 3 {
		t.Errorf("unlinked as %+v", r)
	}
	for _, slot := range []uint32{8, 9} {
		if e := s.take(t, link.KindClose); e.Slot != slot || e.Reason != stanza.ReasonUnavailable || e.RetryAfter == 0 {
			t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
		}
	}
	q.nothing(t)
	if n := h.m.bindings.len(); n != 0 || h.m.waiting != 0 {
		t.Errorf("%d bindings, %d waiting", n, h.m.waiting)
	}
	h.m.Lead(2)
	h.settle()
	s.take(t, link.KindHello)
	q.take(t, link.KindHello)
	h.tick(h.m.cfg.DropRetry.D()) // the drop is in the tables
	if e := q.take(t, link.KindDropQueue); e.Account != ann.account || e.Device != ann.device {
		t.Errorf("%+v", e)
	}
}

// failingRecords fail to be scanned.
type failingRecords struct{ memRecords }

func (failingRecords) Scan(_, _ []byte, _ func(k, v []byte) bool) error {
	return errors.New("unreadable")
}

// TestUnreadableStopsGroup: whoever asks for a record that cannot be read stops the group, and is told to try again.
func TestUnreadableStopsGroup(t *testing.T) {
	for name, spoil := range map[string]func(memRecords){
		"account": func(m memRecords) {
			for k := range m {
				if k[0] == prefixAccount {
					m[k] = []byte{9}
				}
			}
		},
		"handle": func(m memRecords) {
			for k := range m {
				if k[0] == prefixHandle {
					m[k] = []byte{0xff}
				}
			}
		},
	} {
		h, s, _, _, bob := pair(t, nil)
		spoil(h.m.directory.records.(memRecords))
		e := h.queryError(h.query(s, bob, stanza.Query{ID: 3, Op: stanza.OpLookup, Handle: []byte(handleIn("ann"))}))
		if e.Reason != stanza.ReasonUnavailable || e.RetryAfter == 0 {
			t.Errorf("%s: %v after %d", name, e.Reason, e.RetryAfter)
		}
		if !errors.Is(h.failure, errRecord) {
			t.Errorf("%s: stopped with %v", name, h.failure)
		}
	}
	// The leader's own scans.
	h, s, _, ann, _ := pair(t, nil)
	h.query(s, ann, stanza.Query{ID: 3, Op: stanza.OpUnlink, Device: ann.device})
	h.m.Follow()
	h.m.directory.records = failingRecords{h.m.directory.records.(memRecords)}
	h.m.Lead(2)
	h.tick(h.m.cfg.DropRetry.D())
	if h.failure == nil {
		t.Error("queues to drop that cannot be read stop nothing")
	}
}
