package router

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

func newTestDirectory(r records) *directory {
	return &directory{shard: testShard, shards: testShards, cluster: "test", records: r, fail: func(error) {}}
}

func entry(stamp int64, cmd []byte) shard.Entry { return shard.Entry{Index: 7, Stamp: stamp, Cmd: cmd} }

// checkDirectory checks what must hold after any fold: records decode, handles and accounts name each other, numbers are dense.
func checkDirectory(t *testing.T, d *directory) {
	t.Helper()
	handles := 0
	err := d.records.Scan([]byte{prefixHandle}, []byte{prefixHandle + 1}, func(k, _ []byte) bool {
		handles++
		owner, err := d.owner(k[1:])
		if err != nil {
			t.Fatal(err)
		}
		a, err := d.account(owner)
		if err != nil || a == nil || string(a.handle) != string(k[1:]) {
			t.Fatalf("handle %q of account %d: %+v, %v", k[1:], owner, a, err)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if uint64(handles) != d.accounts {
		t.Fatalf("%d handles, %d accounts", handles, d.accounts)
	}
	for n := range d.accounts {
		number := stanza.Account((n+1)*testShards + testShard)
		v, ok, _ := d.records.Get(appendAccountKey(nil, number))
		var stored accountRecord
		if err := stored.decode(v); !ok || err != nil {
			t.Fatalf("account %d: %v", number, err)
		}
		last := stanza.Device(0)
		for _, dev := range stored.devices {
			if dev.number <= last || dev.number >= stored.next {
				t.Fatalf("account %d: devices %+v", number, stored.devices)
			}
			last = dev.number
		}
	}
}

func TestDirectory(t *testing.T) {
	d := newTestDirectory(memRecords{})
	ann, bob := stanza.Account(testShards+testShard), stanza.Account(2*testShards+testShard)
	do := func(name string, stamp int64, c command, want result) {
		t.Helper()
		if got := d.apply(entry(stamp, c.append(nil))); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		checkDirectory(t, d)
	}
	bad := func(r stanza.Reason) result { return result{reason: r} }
	handle := func(s string) []byte { return []byte(s) }

	do("closed", 1, command{op: opRegister, text: handle("ann"), key: key(1)}, bad(stanza.ReasonRegistrationClosed))
	do("new", 1, command{op: opRegister, text: handle("ann"), key: key(1), create: true, id: 7}, result{account: ann, device: 1, version: 1})
	do("again, no invite", 1, command{op: opRegister, text: handle("ann"), key: key(1), id: 3}, result{account: ann, device: 1, version: 1, noted: 7})
	do("taken", 1, command{op: opRegister, text: handle("ann"), key: key(2), create: true}, bad(stanza.ReasonHandleTaken))
	do("second", 1, command{op: opRegister, text: handle("bob"), key: key(1), create: true}, result{account: bob, device: 1, version: 1})

	do("link", 1, command{op: opLink, account: ann, by: 1, key: key(2)}, result{account: ann, device: 2, version: 2})
	do("link again", 1, command{op: opLink, account: ann, by: 2, key: key(2)}, result{account: ann, device: 2, version: 2})
	do("link by nobody", 1, command{op: opLink, account: ann, by: 9, key: key(3)}, bad(stanza.ReasonForbidden))
	do("link to nobody", 1, command{op: opLink, account: 999, by: 1, key: key(3)}, bad(stanza.ReasonUnknownAccount))
	do("linked key registers", 1, command{op: opRegister, text: handle("ann"), key: key(2)}, result{account: ann, device: 2, version: 2})

	do("note", 1, command{op: opNote, account: ann, device: 2, id: 1024}, result{account: ann, device: 2, version: 2})
	do("note less", 1, command{op: opNote, account: ann, device: 2, id: 24}, result{account: ann, device: 2, version: 2, noted: 1024})
	do("note too much", 1, command{op: opNote, account: ann, device: 2, id: maxUint}, result{account: ann, device: 2, version: 2, noted: 1024})
	do("note of none", 1, command{op: opNote, account: ann, device: 3, id: 24}, bad(stanza.ReasonUnlinked))

	do("unlink by an unlinked one", 1, command{op: opUnlink, account: ann, by: 3, device: 1}, bad(stanza.ReasonForbidden))
	do("unlink", 1, command{op: opUnlink, account: ann, by: 1, device: 1}, result{account: ann, device: 1, version: 3, changed: true})
	do("unlink again", 1, command{op: opUnlink, account: ann, by: 2, device: 1}, result{account: ann, device: 1, version: 3})
	do("unlink what never was", 1, command{op: opUnlink, account: ann, by: 2, device: 3}, bad(stanza.ReasonForbidden))
	do("unlinked key registers", 1, command{op: opRegister, text: handle("ann"), key: key(1), create: true}, bad(stanza.ReasonHandleTaken))
	do("numbers go on", 1, command{op: opLink, account: ann, by: 2, key: key(1)}, result{account: ann, device: 3, version: 4})

	var drops []stanza.Device
	if more, err := d.drops(9, func(_ stanza.Account, dev stanza.Device) { drops = append(drops, dev) }); more || err != nil || len(drops) != 1 || drops[0] != 1 {
		t.Errorf("drops %v, more %v, %v", drops, more, err)
	}
	do("drop done", 1, command{op: opDropDone, account: ann, device: 1}, result{})
	do("drop done again", 1, command{op: opDropDone, account: ann, device: 1}, result{})

	digest := inviteDigest("code")
	do("invite", 100, command{op: opInviteCreate, digest: digest, until: 200}, result{})
	do("invite twice", 100, command{op: opInviteCreate, digest: digest, until: 900}, bad(stanza.ReasonBadInvite))
	redeem := func(k byte, name string) command {
		return command{op: opInviteRedeem, digest: digest, key: key(k), text: handle(name)}
	}
	do("redeem late", 200, redeem(5, "eve"), bad(stanza.ReasonBadInvite))
	do("redeem", 199, redeem(5, "eve"), result{})
	for range 20 {
		do("redeem again, late", 300, redeem(5, "eve"), result{})
	}
	do("redeem for another handle", 150, redeem(5, "eva"), bad(stanza.ReasonBadInvite))
	do("redeem by another", 150, redeem(6, "eve"), bad(stanza.ReasonBadInvite))
	do("expire too early", 1, command{op: opInviteExpire, until: 199}, result{})
	do("still there", 150, redeem(5, "eve"), result{})
	do("expire", 1, command{op: opInviteExpire, until: 200}, result{})
	do("forgotten", 150, redeem(5, "eve"), bad(stanza.ReasonBadInvite))

	var failed error
	d.fail = func(err error) { failed = err }
	got := d.apply(entry(1, []byte("nonsense")))
	if got != bad(stanza.ReasonInternal) || !errors.Is(failed, errCommand) || !strings.HasPrefix(failed.Error(), "log entry 7, command 0: ") {
		t.Errorf("nonsense: %+v, failed with %v", got, failed)
	}
}

func TestDirectoryFacts(t *testing.T) {
	r := memRecords{}
	d := newTestDirectory(r)
	d.apply(entry(1, (&command{op: opFacts, shards: testShards, text: []byte("test")}).append(nil)))
	if !d.factsKnown {
		t.Fatal("facts unknown")
	}
	if err := newTestDirectory(r).load(); err != nil {
		t.Errorf("the same cluster: %v", err)
	}
	for _, other := range []*directory{
		{shards: testShards * 2, cluster: "test", records: r},
		{shards: testShards, cluster: "other", records: r},
	} {
		if err := other.load(); err == nil {
			t.Errorf("cluster %q with %d shards opens data of another", other.cluster, other.shards)
		}
		// The same when the facts are still in the log.
		replay := *other
		var fault error
		replay.records, replay.fail = memRecords{}, func(err error) { fault = err }
		replay.apply(entry(1, (&command{op: opFacts, shards: testShards, text: []byte("test")}).append(nil)))
		if fault == nil {
			t.Errorf("cluster %q with %d shards replays the log of another", other.cluster, other.shards)
		}
	}
}

// brokenRecords are records whose reads fail, or which hold garbage.
type brokenRecords struct {
	err     error
	garbage []byte
	changes int
}

func (r *brokenRecords) Get([]byte) ([]byte, bool, error) { return r.garbage, r.err == nil, r.err }
func (r *brokenRecords) Set(_, _ []byte)                  { r.changes++ }
func (r *brokenRecords) Delete([]byte)                    { r.changes++ }
func (r *brokenRecords) Scan(_, _ []byte, f func(k, v []byte) bool) error {
	if r.err == nil {
		f([]byte{prefixInvite}, r.garbage)
	}
	return r.err
}

// An entry whose records cannot be read stops the host and changes nothing.
func TestUnreadableRecordsStopTheHost(t *testing.T) {
	commands := []command{
		{op: opRegister, text: []byte("ann"), key: key(1), create: true},
		{op: opLink, account: 5, by: 1, key: key(2)},
		{op: opUnlink, account: 5, by: 1, device: 1},
		{op: opNote, account: 5, device: 1, id: 7},
		{op: opInviteRedeem, digest: [digestSize]byte{1}, key: key(1), text: []byte("ann")},
		{op: opInviteExpire, until: 7},
	}
	unreadable := errors.New("unreadable")
	for _, r := range []*brokenRecords{{err: unreadable}, {garbage: []byte{99}}} {
		for _, c := range commands {
			var failed error
			d := newTestDirectory(r)
			d.fail = func(err error) { failed = err }
			got := d.apply(entry(1, c.append(nil)))
			if got.reason != stanza.ReasonInternal || r.changes != 0 || !errors.Is(failed, cmp.Or(r.err, errRecord)) {
				t.Errorf("operation %d: %+v, %d changes, %v", c.op, got, r.changes, failed)
			}
		}
	}
	var failed error
	d := newTestDirectory(&brokenRecords{err: unreadable})
	d.fail = func(err error) { failed = err }
	if d.apply(entry(1, (&command{op: opInviteCreate}).append(nil))); !errors.Is(failed, unreadable) {
		t.Errorf("create: %v", failed)
	}
	m := dirShard{directory: d}
	if failed = nil; m.Hash() != 0 || !errors.Is(failed, unreadable) {
		t.Errorf("hash: %v", failed)
	}
}

// What redeemed an invite before it was for one handle: the record of a use, which counted them, and the entry without a handle. Neither
// is taken for anything else; both stop the group with a line. An invite that nobody had used is the same as ever.
func TestInvitesOfOldAreRefused(t *testing.T) {
	for uses := byte(1); uses <= 16; uses++ {
		old := append(binary.AppendUvarint([]byte{recordVersion}, 1<<40), uses)
		for _, b := range []byte{0, 1, 'a', 0xff} {
			if i, err := decodeInvite(append(old[:len(old):len(old)], bytes.Repeat([]byte{b}, keySize)...)); !errors.Is(err, errRecord) {
				t.Errorf("used %d times: %+v, %v", uses, i, err)
			}
		}
	}
	if i, err := decodeInvite(append(binary.AppendUvarint([]byte{recordVersion}, 1<<40), 0)); err != nil || i.handle != "" || i.until != 1<<40 {
		t.Errorf("free: %+v, %v", i, err)
	}
	entryOfOld := append([]byte{commandVersion, byte(opInviteRedeem)}, make([]byte, digestSize+keySize)...)
	r := &brokenRecords{}
	var failed error
	d := newTestDirectory(r)
	d.fail = func(err error) { failed = err }
	d.apply(entry(1, entryOfOld))
	if !errors.Is(failed, errCommand) || r.changes != 0 || strings.Contains(failed.Error(), "\n") {
		t.Errorf("%d changes, %v", r.changes, failed)
	} else {
		t.Log(failed)
	}
}

// A directory that is loaded again, because another replica's state took the place of its own, holds nothing of the one before.
func TestLoadForgets(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	one, other := newTestDirectory(memRecords{}), newTestDirectory(memRecords{})
	run := func(n int, all ...*directory) {
		t.Helper()
		for range n {
			c := randomCommand(rng)
			cmd, results := c.append(nil), map[result]bool{}
			for _, d := range all {
				results[d.apply(entry(1000, cmd))] = true
			}
			if len(results) != 1 {
				t.Fatalf("%+v: %v", c, results)
			}
		}
	}
	facts := command{op: opFacts, shards: testShards, text: []byte("test")}
	ticket := command{op: opTicketKey, id: 1}
	one.apply(entry(1000, facts.append(nil)))
	one.apply(entry(1000, ticket.append(nil)))
	run(300, one)
	run(100, other)
	one.records = maps.Clone(other.records.(memRecords))
	if err := one.load(); err != nil {
		t.Fatal(err)
	}
	if one.factsKnown || len(one.tickets.keys) > 0 || one.accounts != other.accounts {
		t.Errorf("facts known: %v, %d ticket keys, %d accounts, want %d", one.factsKnown, len(one.tickets.keys), one.accounts, other.accounts)
	}
	run(300, one, other)
	a, err := one.hash()
	b, err2 := other.hash()
	if a != b || err != nil || err2 != nil {
		t.Errorf("hash %x, want %x (%v, %v)", a, b, err, err2)
	}
}
