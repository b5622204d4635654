package router

import (
	"bytes"
	"log/slog"
	"slices"
	"sort"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// memRecords is the map model of shard.Overlay.
type memRecords map[string][]byte

func (r memRecords) Get(key []byte) ([]byte, bool, error) {
	v, ok := r[string(key)]
	return v, ok, nil
}
func (r memRecords) Set(key, val []byte) { r[string(key)] = bytes.Clone(val) }
func (r memRecords) Delete(key []byte)   { delete(r, string(key)) }
func (r memRecords) Scan(lower, upper []byte, f func(k, v []byte) bool) error {
	var keys []string
	for k := range r {
		if k >= string(lower) && k < string(upper) {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		if !f([]byte(k), r[k]) {
			break
		}
	}
	return nil
}

// fakeGroup commits what is proposed when the test says so.
type fakeGroup struct {
	m        *dirShard
	queue    []fakeEntry
	verifies []func(bool)
	stamp    int64
	index    uint64
	full     bool
	low      bool          // the disk is below its floor
	hold     bool          // nothing commits and nothing is verified
	outcome  shard.Outcome // of what is proposed
	stale    bool          // verification fails
}

type fakeEntry struct {
	cmd []byte
	ctx *pending
}

func (g *fakeGroup) Propose(cmd []byte, p *pending) bool {
	if g.full {
		return false
	}
	g.queue = append(g.queue, fakeEntry{bytes.Clone(cmd), p})
	return true
}
func (g *fakeGroup) ProposeLazy(cmd []byte, p *pending) bool { return g.Propose(cmd, p) }
func (g *fakeGroup) StorageFull() bool                       { return g.low }
func (g *fakeGroup) Stamp() int64                            { return g.stamp }
func (g *fakeGroup) Verify(f func(bool))                     { g.verifies = append(g.verifies, f) }
func (g *fakeGroup) Wake()                                   {}

// settle commits and verifies until nothing is pending.
func (g *fakeGroup) settle() {
	for !g.hold && len(g.queue)+len(g.verifies) > 0 {
		entries, verifies := g.queue, g.verifies
		g.queue, g.verifies = nil, nil
		for _, e := range entries {
			var r result
			if g.outcome == shard.Committed {
				g.index++
				r = g.m.Apply(shard.Entry{Index: g.index, Stamp: g.stamp, Cmd: e.cmd})
			}
			g.m.Done(e.ctx, g.outcome, r)
		}
		for _, f := range verifies {
			f(!g.stale)
		}
	}
}

// fakeStream keeps what was sent on it.
type fakeStream struct {
	got   []link.Envelope
	err   error
	spent bool   // but for the reserve
	cert  string // the name in its certificate; "": any
}

func (s *fakeStream) IssuedFor(name string) bool { return s.cert == "" || s.cert == name }

func (s *fakeStream) Send(e *link.Envelope) error {
	if s.err != nil {
		return s.err
	}
	c := *e
	c.Payload = bytes.Clone(e.Payload)
	s.got = append(s.got, c)
	return nil
}

func (s *fakeStream) SendSpare(e *link.Envelope) error {
	if s.spent {
		return link.ErrNoCredit
	}
	return s.Send(e)
}

// take returns the next envelope; the test fails unless it is of the kind.
func (s *fakeStream) take(t *testing.T, kind link.Kind) link.Envelope {
	t.Helper()
	if len(s.got) == 0 {
		t.Fatalf("nothing sent, want %v", kind)
	}
	e := s.got[0]
	s.got = s.got[1:]
	if e.Kind != kind {
		t.Fatalf("sent %v (reason %v), want %v", e.Kind, e.Reason, kind)
	}
	return e
}

func (s *fakeStream) nothing(t *testing.T) {
	t.Helper()
	for _, e := range s.got {
		t.Errorf("sent %v (slot %d, reason %v), want nothing", e.Kind, e.Slot, e.Reason)
	}
	s.got = nil
}

// harness is one shard over a fake group, driven by the test alone.
type harness struct {
	t  *testing.T
	m  *dirShard
	g  *fakeGroup
	at time.Time

	shard   int
	log     *slog.Logger
	failure error // what stopped the group
}

const (
	testShards = 4
	testShard  = 1
)

func newHarness(t *testing.T, change func(*Config)) *harness {
	return newHarnessOf(t, testShard, change)
}

func newHarnessOf(t *testing.T, shard int, change func(*Config)) *harness {
	cfg := DefaultConfig()
	cfg.LimitEntries, cfg.ContactEntries = 256, 256
	if change != nil {
		change(&cfg)
	}
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := &harness{t: t, at: start, shard: shard, log: slog.New(slog.DiscardHandler)}
	h.boot(cfg, memRecords{})
	return h
}

// boot starts a shard on records; a second time it is a restart of the process.
func (h *harness) boot(cfg Config, records memRecords) {
	term := uint64(1)
	if h.m != nil {
		term = h.m.term + 1
	}
	m := newDirShard(cfg, h.shard, testShards, "test", h.at, h.log, newMetrics(nil))
	m.directory.records = records
	m.directory.fail = func(err error) { h.failure = err }
	if err := m.directory.load(); err != nil {
		h.t.Fatal(err)
	}
	h.m, h.g = m, &fakeGroup{m: m, stamp: h.at.UnixMilli()}
	m.start(h.g, link.NewInbox(nil), nil)
	m.Tick(h.at)
	m.Lead(term)
	h.g.settle()
}

func (h *harness) restart() { h.boot(h.m.cfg, h.m.directory.records.(memRecords)) }

func (h *harness) tick(d time.Duration) {
	h.at = h.at.Add(d)
	h.g.stamp = h.at.UnixMilli()
	h.m.Tick(h.at)
	h.m.finishTurn()
	h.g.settle()
}

func (h *harness) up(role link.Role, node, incarnation uint64) *fakeStream {
	s := &fakeStream{}
	h.m.up(s, link.Info{Role: role, Node: node, Incarnation: incarnation, Shards: testShards, Cluster: "test"})
	return s
}

// gateway connects a gateway and swallows the hello.
func (h *harness) gateway(node, incarnation uint64) *fakeStream {
	s := h.up(link.RoleGateway, node, incarnation)
	if e := s.take(h.t, link.KindHello); e.Term != h.m.term || e.Group != h.m.id {
		h.t.Fatalf("hello of %v in term %d", e.Group, e.Term)
	}
	return s
}

// offline connects an offline that leads queue/N in term.
func (h *harness) offline(term uint64) *fakeStream {
	s := h.up(link.RoleOffline, 99, 1)
	s.take(h.t, link.KindHello)
	h.send(s, link.Envelope{Kind: link.KindHello, Group: h.m.queue, Term: term})
	return s
}

// send receives e from s and lets everything settle.
func (h *harness) send(s *fakeStream, e link.Envelope) {
	if e.Group == 0 {
		e.Group = h.m.id
	}
	h.m.receive(s, &e)
	h.settle()
}

func (h *harness) settle() {
	h.m.finishTurn()
	h.g.settle()
	h.m.finishTurn()
}

// client is a device as the tests know it.
type client struct {
	account stanza.Account
	device  stanza.Device
	key     [32]byte
	slot    uint32
}

func key(n byte) (k [32]byte) {
	for i := range k {
		k[i] = n
	}
	return k
}

// redeemPayload is what a gateway sends to redeem a code for key n and a handle.
func redeemPayload(n byte, handle, code string) []byte {
	k := key(n)
	return append(append(append(k[:], byte(len(handle))), handle...), code...)
}

// handleIn returns a handle that the test's shard creates.
func handleIn(base string) string {
	for i := 'a'; ; i++ {
		if s := base + string(i); stanza.HandleShard(s, testShards) == testShard {
			return s
		}
	}
}

func (h *harness) registerEnv(handle string, k [32]byte, slot uint32) link.Envelope {
	r := stanza.Register{Handle: []byte(handle)}
	return link.Envelope{Kind: link.KindRegister, Slot: slot, Gen: 1, Payload: r.Append(slices.Clone(k[:]))}
}

// register makes an account and binds it in slot.
func (h *harness) register(s *fakeStream, handle string, n byte, slot uint32) client {
	h.t.Helper()
	h.send(s, h.registerEnv(handle, key(n), slot))
	e := s.take(h.t, link.KindBound)
	if e.Slot != slot || e.Serial == 0 {
		h.t.Fatalf("bound slot %d serial %d", e.Slot, e.Serial)
	}
	return client{account: e.Account, device: e.Device, key: key(n), slot: slot}
}

func (h *harness) bindEnv(c client, slot uint32, id uint64) link.Envelope {
	return link.Envelope{Kind: link.KindBind, Slot: slot, Gen: 1, Account: c.account, Device: c.device, ID: id, Payload: slices.Clone(c.key[:])}
}

func (h *harness) query(s *fakeStream, c client, q stanza.Query) link.Envelope {
	h.t.Helper()
	h.send(s, link.Envelope{Kind: link.KindQuery, Slot: c.slot, Gen: 1, Account: c.account, Device: c.device, ID: q.ID, Payload: q.Append(nil)})
	return s.take(h.t, link.KindResult)
}

func (h *harness) result(e link.Envelope) stanza.Result {
	h.t.Helper()
	v, _, err := stanza.Decode(e.Payload)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := stanza.ParseResult(v)
	if err != nil {
		h.t.Fatalf("result: %v (tag %v)", err, v.Tag)
	}
	return r
}

func (h *harness) queryError(e link.Envelope) stanza.QueryError {
	h.t.Helper()
	v, _, err := stanza.Decode(e.Payload)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := stanza.ParseQueryError(v)
	if err != nil {
		h.t.Fatalf("error: %v (tag %v)", err, v.Tag)
	}
	return r
}

// link adds a device with key n to c's account.
func (h *harness) link(s *fakeStream, c client, n byte) client {
	h.t.Helper()
	k := key(n)
	r := h.result(h.query(s, c, stanza.Query{ID: 7, Op: stanza.OpLink, Key: k[:]}))
	return client{account: c.account, device: r.Device, key: k}
}

// messageEnv is a message from c with a ciphertext for each of the devices.
func messageEnv(from client, id uint64, to stanza.Account, version uint64, devices ...stanza.Device) link.Envelope {
	var body []byte
	for _, d := range devices {
		body = stanza.AppendCipher(body, d, []byte("ciphertext"))
	}
	msg := stanza.MessageUp{ID: id, Account: to, Version: version, Body: body}
	return link.Envelope{Kind: link.KindMessage, Group: stanza.DirGroup(testShard), Slot: from.slot, Gen: 1, Account: from.account,
		Device: from.device, ID: id, Charge: 77, Payload: msg.Append(nil)}
}

// refused sends a message and returns its refusal.
func (h *harness) refused(s *fakeStream, e link.Envelope) stanza.Refused {
	h.t.Helper()
	h.send(s, e)
	a := s.take(h.t, link.KindRefused)
	if a.ID != e.ID || a.Charge != e.Charge || a.Slot != e.Slot || a.Gen != e.Gen {
		h.t.Fatalf("refusal of id %d charge %d slot %d", a.ID, a.Charge, a.Slot)
	}
	v, _, err := stanza.Decode(a.Payload)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := stanza.ParseRefused(v)
	if err != nil || r.Reason != a.Reason || r.ID != e.ID {
		h.t.Fatalf("refused stanza %v: %v", r, err)
	}
	return r
}
