package router

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"linecard.example/internal/roster"
	"linecard.example/internal/stanza"
)

// model is the directory said again in plain maps, without records, versions of encodings or caches.
type model struct {
	handles  map[string]stanza.Account
	accounts map[stanza.Account]*modelAccount
	drops    map[deviceKey]bool
	invites  map[[digestSize]byte]*modelInvite
	tickets  []modelTicket // all that ever were, oldest first
	roster   *roster.Roster
}

type modelTicket struct {
	key  [keySize]byte
	made int64
}

type modelAccount struct {
	handle  string
	version uint64
	issued  stanza.Device // highest number ever
	devices map[stanza.Device]*modelDevice
	last    [keySize]byte // key of the device that was removed last
}

type modelDevice struct {
	key   [keySize]byte
	noted uint64
}

type modelInvite struct {
	until  int64
	by     *[keySize]byte
	handle string
}

func newModel() *model {
	return &model{handles: map[string]stanza.Account{}, accounts: map[stanza.Account]*modelAccount{}, drops: map[deviceKey]bool{},
		invites: map[[digestSize]byte]*modelInvite{}}
}

func (a *modelAccount) find(k [keySize]byte) stanza.Device {
	for n, d := range a.devices {
		if d.key == k {
			return n
		}
	}
	return 0
}

func (a *modelAccount) add(k [keySize]byte) stanza.Device {
	if len(a.devices) == stanza.MaxDevices || a.issued == stanza.MaxDevice {
		return 0
	}
	a.issued++
	a.version++
	a.devices[a.issued] = &modelDevice{key: k}
	return a.issued
}

func (m *model) note(number stanza.Account, dev stanza.Device, id uint64) result {
	a := m.accounts[number]
	d := a.devices[dev]
	before := d.noted
	d.noted = max(before, min(id, stanza.MaxID))
	return result{account: number, device: dev, version: a.version, noted: before}
}

func (m *model) apply(stamp int64, c *command) result {
	a := m.accounts[c.account]
	switch c.op {
	case opRegister:
		return m.register(c)
	case opLink:
		if a == nil {
			return result{reason: stanza.ReasonUnknownAccount}
		}
		if a.devices[c.by] == nil {
			return result{reason: stanza.ReasonForbidden}
		}
		dev := a.find(c.key)
		if dev == 0 {
			dev = a.add(c.key)
		}
		if dev == 0 {
			return result{reason: stanza.ReasonTooManyDevices}
		}
		return result{account: c.account, device: dev, version: a.version}
	case opUnlink:
		return m.unlink(c)
	case opDropDone:
		delete(m.drops, keyOf(c.account, c.device))
	case opNote:
		if a == nil {
			return result{reason: stanza.ReasonUnknownAccount}
		}
		if a.devices[c.device] == nil {
			return result{reason: stanza.ReasonUnlinked}
		}
		return m.note(c.account, c.device, c.id)
	case opInviteCreate:
		if m.invites[c.digest] != nil {
			return result{reason: stanza.ReasonBadInvite}
		}
		m.invites[c.digest] = &modelInvite{until: c.until}
	case opInviteRedeem:
		i := m.invites[c.digest]
		if i != nil && i.by == nil && stamp < i.until {
			i.by, i.handle = &c.key, string(c.text)
		}
		if i == nil || i.by == nil || *i.by != c.key || i.handle != string(c.text) {
			return result{reason: stanza.ReasonBadInvite}
		}
	case opInviteExpire:
		maps.DeleteFunc(m.invites, func(_ [digestSize]byte, i *modelInvite) bool { return i.until <= c.until })
	case opTicketKey:
		if c.id == uint64(len(m.tickets)+1) {
			m.tickets = append(m.tickets, modelTicket{c.key, stamp})
		}
	case opRoster, opAnnounce, opLeave:
		return result{refusal: m.change(stamp, c)}
	}
	return result{}
}

// change changes the roster; what it makes of it is roster's own, and tested there.
func (m *model) change(stamp int64, c *command) (why roster.Refusal) {
	if c.op == opRoster {
		seen, _ := roster.Parse(c.text)
		switch {
		case m.roster != nil && m.roster.Cluster != seen.Cluster:
			return roster.OtherCluster
		case m.roster == nil || seen.Version > m.roster.Version:
			m.roster = seen
		}
		return roster.Done
	}
	if m.roster == nil {
		return roster.NotFounded
	}
	if c.op == opLeave {
		m.roster, why = m.roster.Leave(string(c.text), stamp)
		return why
	}
	member, _ := roster.ParseMember(c.text)
	m.roster, why = m.roster.Announce(member, stamp)
	return why
}

func (m *model) register(c *command) result {
	number, taken := m.handles[string(c.text)]
	if !taken && !c.create {
		return result{reason: stanza.ReasonRegistrationClosed}
	}
	if !taken {
		number = stanza.Account((len(m.handles)+1)*testShards + testShard)
		m.handles[string(c.text)] = number
		m.accounts[number] = &modelAccount{handle: string(c.text), devices: map[stanza.Device]*modelDevice{}, last: c.key}
	}
	a := m.accounts[number]
	dev := a.find(c.key)
	if dev == 0 && (len(a.devices) > 0 || a.last != c.key) {
		return result{reason: stanza.ReasonHandleTaken}
	}
	if dev == 0 {
		dev = a.add(c.key)
	}
	return m.note(number, dev, c.id)
}

func (m *model) unlink(c *command) result {
	a := m.accounts[c.account]
	if a == nil {
		return result{reason: stanza.ReasonUnknownAccount}
	}
	if c.by != 0 && a.devices[c.by] == nil || c.device == 0 || c.device > a.issued {
		return result{reason: stanza.ReasonForbidden}
	}
	d, had := a.devices[c.device]
	if had {
		a.last = d.key
		a.version++
		delete(a.devices, c.device)
		m.drops[keyOf(c.account, c.device)] = true
	}
	return result{account: c.account, device: c.device, version: a.version, changed: had}
}

// lines says everything that the model holds, for comparing.
func (m *model) lines() []string {
	var out []string
	for _, n := range slices.Sorted(maps.Keys(m.accounts)) {
		a := m.accounts[n]
		line := fmt.Sprintf("account %d %s version %d issued %d", n, a.handle, a.version, a.issued)
		for _, d := range slices.Sorted(maps.Keys(a.devices)) {
			line += fmt.Sprintf(" [%d noted %d key %x]", d, a.devices[d].noted, a.devices[d].key[:2])
		}
		out = append(out, line)
	}
	for _, k := range slices.Sorted(maps.Keys(m.drops)) {
		out = append(out, fmt.Sprintf("drop %d.%d", k.account(), k.device()))
	}
	digests := slices.SortedFunc(maps.Keys(m.invites), func(a, b [digestSize]byte) int { return cmp.Compare(string(a[:]), string(b[:])) })
	for _, d := range digests {
		i := m.invites[d]
		line := fmt.Sprintf("invite %x until %d", d[:4], i.until)
		if i.by != nil {
			line += fmt.Sprintf(" by %x for %s", i.by[:2], i.handle)
		}
		out = append(out, line)
	}
	if n := len(m.tickets); n > 0 {
		out = append(out, fmt.Sprintf("ticket key %d %x of %d", n, m.tickets[n-1].key, m.tickets[n-1].made))
	}
	for n := len(m.tickets) - 1; n > max(len(m.tickets)-8, 0); n-- {
		out = append(out, fmt.Sprintf("ticket key %d %x", n, m.tickets[n-1].key))
	}
	if m.roster != nil {
		out = append(out, fmt.Sprintf("roster %+v", *m.roster))
	}
	return out
}

// directoryLines says the same of a directory, from its records.
func directoryLines(d *directory) ([]string, error) {
	var out []string
	var bad error
	scan := func(prefix byte, f func(k, v []byte) error) {
		err := d.records.Scan([]byte{prefix}, []byte{prefix + 1}, func(k, v []byte) bool {
			if err := f(k, v); err != nil {
				bad = err
			}
			return bad == nil
		})
		if err != nil {
			bad = err
		}
	}
	scan(prefixAccount, func(k, v []byte) error {
		var a accountRecord
		if err := a.decode(v); err != nil {
			return err
		}
		number := stanza.Account(0)
		for _, b := range k[1:] {
			number = number<<8 | stanza.Account(b)
		}
		line := fmt.Sprintf("account %d %s version %d issued %d", number, a.handle, a.version, a.next-1)
		for i := range a.devices {
			line += fmt.Sprintf(" [%d noted %d key %x]", a.devices[i].number, a.devices[i].noted, a.devices[i].key[:2])
		}
		out = append(out, line)
		return nil
	})
	if _, err := d.drops(1<<30, func(a stanza.Account, dev stanza.Device) { out = append(out, fmt.Sprintf("drop %d.%d", a, dev)) }); err != nil {
		return nil, err
	}
	scan(prefixInvite, func(k, v []byte) error {
		i, err := decodeInvite(v)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("invite %x until %d", k[1:5], i.until)
		if i.handle != "" {
			line += fmt.Sprintf(" by %x for %s", i.key[:2], i.handle)
		}
		out = append(out, line)
		return nil
	})
	scan(prefixTickets, func(_, v []byte) error {
		r, err := decodeTickets(v)
		if err != nil {
			return err
		}
		of := fmt.Sprintf(" of %d", r.made)
		for _, k := range r.keys {
			out = append(out, fmt.Sprintf("ticket key %d %x%s", k.ID, k.Key, of))
			of = ""
		}
		return nil
	})
	scan(prefixRoster, func(_, v []byte) error {
		r, err := roster.Parse(v)
		if err == nil {
			out = append(out, fmt.Sprintf("roster %+v", *r))
		}
		return err
	})
	return out, bad
}
