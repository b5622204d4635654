package router

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// records is what the directory needs of its tables: shard.Overlay. Set keeps copies; Get returns a slice that it may reuse.
type records interface {
	Get(key []byte) (val []byte, ok bool, err error)
	Set(key, val []byte)
	Delete(key []byte)
	Scan(lower, upper []byte, f func(k, v []byte) bool) error
}

// directory is the replicated state of one dir/N group: a fold of its log over records, nothing else. Shard goroutine only.
type directory struct {
	shard, shards int
	cluster       string
	region        stanza.Region
	records       records
	accounts      uint64 // created here so far: the counter of the last one
	factsKnown    bool
	tickets       ticketRecord
	roster        *roster.Roster // nil: none yet; never changed, a change makes another one
	fail          func(error)    // stops the group, as shard.Host.StopGroup: nothing more is folded, flushed or answered as committed

	// Scratch.
	open     accountRecord // the account that was asked for last
	key, val []byte
}

// result is what apply returns to the proposer. reason is 0 when the command took effect or was in effect already.
type result struct {
	reason  stanza.Reason
	account stanza.Account
	device  stanza.Device
	version uint64
	noted   uint64         // register, note: the highest id noted before this command
	changed bool           // unlink: this command removed the device
	refusal roster.Refusal // of a change of the roster; reason is 0
}

// load reads what the tables hold of the group as a whole; what it held before is forgotten.
func (d *directory) load() error {
	d.accounts, d.factsKnown, d.tickets = 0, false, ticketRecord{}
	v, ok, err := d.records.Get([]byte{prefixFacts})
	if err != nil {
		return fmt.Errorf("directory: facts: %w", err)
	}
	if ok {
		r := reader{b: v}
		shards, cluster, region := int(r.uint(1<<14)), r.text(maxCluster), r.region()
		if r.bad {
			return fmt.Errorf("directory: facts: %w", errRecord)
		}
		d.factsKnown = true
		if err := d.checkFacts(shards, cluster, region); err != nil {
			return err
		}
	}
	v, ok, err = d.records.Get([]byte{prefixCounter})
	if err != nil {
		return fmt.Errorf("directory: counter: %w", err)
	}
	if ok {
		r := reader{b: v}
		if d.accounts = r.uint(maxAccount); r.bad {
			return fmt.Errorf("directory: counter: %w", errRecord)
		}
	}
	if err := d.loadTickets(); err != nil {
		return err
	}
	return d.loadRoster()
}

// errFacts says that the data are of another cluster than the configuration.
var errFacts = errors.New("directory: wrong facts")

func (d *directory) checkFacts(shards int, cluster []byte, region stanza.Region) error {
	if region != d.region {
		return fmt.Errorf("%w: the data belong to region %d, configured is %d", errFacts, region, d.region)
	}
	if shards != d.shards || string(cluster) != d.cluster {
		return fmt.Errorf("%w: the data belong to cluster %q with %d shards, configured are %q and %d", errFacts, cluster, shards, d.cluster, d.shards)
	}
	return nil
}

// apply folds one entry of the log, stamped by the leader, into the records. One that does not decode changes nothing and stops the
// group: to skip it would be to lose what other replicas, or a newer version, make of it.
func (d *directory) apply(e shard.Entry) result {
	c, err := decodeCommand(e.Cmd)
	if err != nil {
		return d.giveUp(fmt.Errorf("log entry %d, command %d: %w", e.Index, e.Seq, err))
	}
	switch c.op {
	case opFacts:
		return d.applyFacts(&c)
	case opRegister:
		return d.applyRegister(&c)
	case opLink:
		return d.applyLink(&c)
	case opUnlink:
		return d.applyUnlink(&c)
	case opDropDone:
		d.records.Delete(dropKey(c.account, c.device))
	case opNote:
		return d.applyNote(&c)
	case opInviteCreate:
		return d.applyInviteCreate(&c)
	case opInviteRedeem:
		return d.applyInviteRedeem(e.Stamp, &c)
	case opInviteExpire:
		return d.applyInviteExpire(c.until)
	case opTicketKey:
		return d.applyTicketKey(e.Stamp, &c)
	case opRoster:
		return d.applyRoster(&c)
	case opAnnounce:
		return d.applyAnnounce(e.Stamp, &c)
	case opLeave:
		return d.applyLeave(e.Stamp, &c)
	}
	return result{}
}

func (d *directory) applyFacts(c *command) result {
	if err := d.checkFacts(c.shards, c.text, c.region); err != nil {
		return d.giveUp(err)
	}
	if !d.factsKnown {
		d.records.Set([]byte{prefixFacts}, appendRegion(appendText(binary.AppendUvarint(nil, uint64(c.shards)), c.text), c.region))
		d.factsKnown = true
	}
	return result{}
}

// giveUp stops the group when an entry cannot be applied: going on would fold it differently from the other replicas, and no answer
// is right. The log has the entry; the next start applies it again.
func (d *directory) giveUp(err error) result {
	d.fail(err)
	return result{reason: stanza.ReasonInternal}
}

// unreadable stops the group because of a record that cannot be read or decoded, whoever asked for it, and returns err: who asked has
// no answer to give but that another leader may have one.
func (d *directory) unreadable(err error) error {
	d.fail(err)
	return err
}

func (d *directory) applyRegister(c *command) result {
	owner, err := d.owner(c.text)
	if err != nil {
		return d.giveUp(err)
	}
	if owner != 0 {
		return d.registerAgain(owner, c)
	}
	if !c.create {
		return result{reason: stanza.ReasonRegistrationClosed}
	}
	number := d.base() + (d.accounts+1)*uint64(d.shards) + uint64(d.shard)
	if number > maxAccount || stanza.Account(number).Region() != d.region {
		return result{reason: stanza.ReasonInternal}
	}
	d.accounts++
	d.records.Set([]byte{prefixCounter}, binary.AppendUvarint(nil, d.accounts))
	d.key, d.val = appendHandleKey(d.key[:0], c.text), binary.AppendUvarint(d.val[:0], number)
	d.records.Set(d.key, d.val)
	a := &d.open
	*a = accountRecord{version: 1, next: 2, handle: append(a.handle[:0], c.text...), devices: a.devices[:0]}
	a.devices = append(a.devices, deviceRecord{number: 1, noted: min(c.id, stanza.MaxID), key: c.key})
	d.save(stanza.Account(number), a)
	return result{account: stanza.Account(number), device: 1, version: 1}
}

// base is what the numbers of accounts are counted from: the least of the region that is shard 0's.
func (d *directory) base() uint64 {
	shards := uint64(d.shards)
	return (uint64(d.region.First()) + shards - 1) / shards * shards
}

// registerAgain answers a claim of a handle that has an owner. The last device that was unlinked may come back under a new
// number while the account has no other: otherwise a device that was unlinked for being away would lose its account.
func (d *directory) registerAgain(number stanza.Account, c *command) result {
	a, err := d.account(number)
	if a == nil {
		return d.giveUp(cmp.Or(err, errRecord)) // the handle says that it is there
	}
	if own := a.byKey(&c.key); own != nil {
		return d.note(number, a, own, c.id)
	}
	if len(a.devices) > 0 || a.revive != c.key {
		return result{reason: stanza.ReasonHandleTaken}
	}
	own := a.add(&c.key)
	if own == nil {
		return result{reason: stanza.ReasonTooManyDevices}
	}
	return d.note(number, a, own, c.id)
}

// add gives key the next device number and raises the list's version; nil when the account can have no more.
func (a *accountRecord) add(key *[keySize]byte) *deviceRecord {
	if len(a.devices) >= stanza.MaxDevices || a.next > maxDevice {
		return nil
	}
	a.devices = append(a.devices, deviceRecord{number: a.next, key: *key})
	a.next++
	a.version++
	a.revive = [keySize]byte{}
	return &a.devices[len(a.devices)-1]
}

func (d *directory) applyLink(c *command) result {
	a, err := d.account(c.account)
	if err != nil {
		return d.giveUp(err)
	}
	if a == nil {
		return result{reason: stanza.ReasonUnknownAccount}
	}
	if a.device(c.by) == nil {
		return result{reason: stanza.ReasonForbidden}
	}
	own := a.byKey(&c.key)
	if own == nil {
		if own = a.add(&c.key); own == nil {
			return result{reason: stanza.ReasonTooManyDevices}
		}
		d.save(c.account, a)
	}
	return result{account: c.account, device: own.number, version: a.version}
}

func (d *directory) applyUnlink(c *command) result {
	a, err := d.account(c.account)
	if err != nil {
		return d.giveUp(err)
	}
	if a == nil {
		return result{reason: stanza.ReasonUnknownAccount}
	}
	if c.by != 0 && a.device(c.by) == nil || c.device == 0 || c.device >= a.next {
		return result{reason: stanza.ReasonForbidden}
	}
	changed := false
	for i := range a.devices {
		if a.devices[i].number != c.device {
			continue
		}
		if len(a.devices) == 1 {
			a.revive = a.devices[i].key
		}
		a.devices = append(a.devices[:i], a.devices[i+1:]...)
		a.version++
		d.save(c.account, a)
		d.records.Set(dropKey(c.account, c.device), nil)
		changed = true
		break
	}
	return result{account: c.account, device: c.device, version: a.version, changed: changed}
}

func (d *directory) applyNote(c *command) result {
	a, err := d.account(c.account)
	if err != nil {
		return d.giveUp(err)
	}
	if a == nil {
		return result{reason: stanza.ReasonUnknownAccount}
	}
	own := a.device(c.device)
	if own == nil {
		return result{reason: stanza.ReasonUnlinked}
	}
	return d.note(c.account, a, own, c.id)
}

// note raises the id noted for own and returns what it was; it saves a in any case, for callers that changed more of it.
func (d *directory) note(number stanza.Account, a *accountRecord, own *deviceRecord, id uint64) result {
	before := own.noted
	own.noted = max(before, min(id, stanza.MaxID))
	d.save(number, a)
	return result{account: number, device: own.number, version: a.version, noted: before}
}

// account returns the record of a, nil when there is none; the record is the directory's, for reading only, and valid until the next
// call or entry. To decode one anew costs less than finding it among decoded ones that the memory has no room for.
func (d *directory) account(a stanza.Account) (*accountRecord, error) {
	d.key = appendAccountKey(d.key[:0], a)
	v, ok, err := d.records.Get(d.key)
	if err == nil && !ok {
		return nil, nil
	}
	if err == nil {
		err = d.open.decode(v)
	}
	if err != nil {
		return nil, d.unreadable(fmt.Errorf("directory: account %d: %w", a, err))
	}
	return &d.open, nil
}

func (d *directory) save(number stanza.Account, a *accountRecord) {
	d.key, d.val = appendAccountKey(d.key[:0], number), a.append(d.val[:0])
	d.records.Set(d.key, d.val)
}

// owner returns the account that owns a folded handle, 0 when nobody does.
func (d *directory) owner(handle []byte) (stanza.Account, error) {
	d.key = appendHandleKey(d.key[:0], handle)
	v, ok, err := d.records.Get(d.key)
	if err != nil {
		return 0, d.unreadable(fmt.Errorf("directory: handle: %w", err))
	}
	if !ok {
		return 0, nil
	}
	r := reader{b: v}
	owner := r.account()
	if r.bad || owner == 0 || len(r.b) != 0 {
		return 0, d.unreadable(fmt.Errorf("directory: handle: %w", errRecord))
	}
	return owner, nil
}

// drops calls f for up to limit unlinked devices whose queues are still to be dropped; more says that there are others.
func (d *directory) drops(limit int, f func(stanza.Account, stanza.Device)) (more bool, err error) {
	bad := false
	err = d.records.Scan([]byte{prefixDrop}, []byte{prefixDrop + 1}, func(k, _ []byte) bool {
		if limit == 0 {
			more = true
			return false
		}
		a, dev, ok := parseDropKey(k)
		if bad = !ok; ok {
			f(a, dev)
			limit--
		}
		return ok
	})
	if bad {
		err = errRecord
	}
	if err != nil {
		return false, d.unreadable(fmt.Errorf("directory: unlinked devices: %w", err))
	}
	return more, nil
}

// hash is a hash of every record in the order of keys: equal for equal logs.
func (d *directory) hash() (uint64, error) {
	h := xxhash.New()
	var buf []byte
	err := d.records.Scan([]byte{0}, []byte{0xff}, func(k, v []byte) bool {
		buf = binary.AppendUvarint(buf[:0], uint64(len(k)))
		buf = append(buf, k...)
		buf = binary.AppendUvarint(buf, uint64(len(v)))
		buf = append(buf, v...)
		_, _ = h.Write(buf) // never fails
		return true
	})
	return h.Sum64(), err
}
