package router

import (
	"fmt"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/stanza"
)

// The roster of the cluster is a record of dir/0. Its leader changes it, when members announce themselves or an operator takes one out;
// every replica puts what it has applied on the process's board, from where it goes to everybody.

func (d *directory) loadRoster() error {
	v, ok, err := d.records.Get([]byte{prefixRoster})
	if err == nil && ok {
		d.roster, err = roster.Parse(v)
	}
	if err != nil {
		return fmt.Errorf("directory: roster: %w", err)
	}
	return nil
}

// setRoster makes r the roster; why is what the proposer hears.
func (d *directory) setRoster(r *roster.Roster, why roster.Refusal) result {
	if r != d.roster {
		d.roster = r
		d.records.Set([]byte{prefixRoster}, r.Append(nil))
	}
	return result{refusal: why}
}

// applyRoster takes over what members know and this group does not: the roster of a cluster that was just founded, or one that is newer
// because this group came back from a backup. What they know was committed here once. A new foundation takes the place of whatever
// there was: an operator has made a cluster of this directory, the old one's members are not in it.
func (d *directory) applyRoster(c *command) result {
	r, err := roster.Parse(c.text)
	switch {
	case err != nil:
		return d.giveUp(err) // decodeCommand has looked
	case founds(r, d.roster):
	case d.roster != nil && r.Cluster != d.roster.Cluster:
		return result{refusal: roster.OtherCluster}
	case d.roster != nil && r.Version <= d.roster.Version:
		return result{}
	}
	return d.setRoster(r, roster.Done)
}

// founds reports whether known is the first roster of another cluster than own.
func founds(known, own *roster.Roster) bool {
	return known != nil && own != nil && known.Cluster != own.Cluster && known.Version == 1
}

func (d *directory) applyAnnounce(stamp int64, c *command) result {
	m, err := roster.ParseMember(c.text)
	switch {
	case err != nil:
		return d.giveUp(err) // decodeCommand has looked
	case d.roster == nil:
		return result{refusal: roster.NotFounded}
	}
	return d.setRoster(d.roster.Announce(m, stamp))
}

func (d *directory) applyLeave(stamp int64, c *command) result {
	if d.roster == nil {
		return result{refusal: roster.NotFounded}
	}
	return d.setRoster(d.roster.Leave(string(c.text), stamp))
}

// fromOperator takes a change of the roster, which is answered when it is committed, or not.
func (m *dirShard) fromOperator(p *peer, e *link.Envelope) {
	c := command{text: e.Payload}
	switch {
	case m.id != stanza.DirGroup(0):
		return
	case e.Kind == link.KindAnnounce:
		c.op = opAnnounce
		member, err := roster.ParseMember(e.Payload)
		if err != nil {
			m.answerOperator(p.to, e.ID, roster.BadMember)
			return
		}
		if !p.to.IssuedFor(member.Name) { // replicas would refuse each other's connections
			m.answerOperator(p.to, e.ID, roster.OtherName)
			return
		}
	case e.Kind == link.KindLeave:
		c.op = opLeave
		if !roster.ValidName(string(e.Payload)) {
			m.answerOperator(p.to, e.ID, roster.NoSuchMember)
			return
		}
	default:
		return
	}
	m.tickRoster() // ahead of the change: what a founder knows is not in the log before the first tick of its first leadership
	m.propose(&c, &pending{want: wantMember, operator: p.to, id: e.ID})
}

// memberChanged answers an operator whose change was applied.
func (m *dirShard) memberChanged(p *pending, why roster.Refusal) {
	if r := m.directory.roster; r != nil {
		m.log.Info("roster", "group", m.name, "version", r.Version, "members", len(r.Members), "answer", why.String())
	}
	m.answerOperator(p.operator, p.id, why)
}

func (m *dirShard) answerOperator(to sender, id uint64, why roster.Refusal) {
	m.stanza = append(m.stanza[:0], byte(why))
	m.send(to, link.Envelope{Kind: link.KindMemberAnswer, Group: m.id, Term: m.term, ID: id, Payload: m.stanza})
}

// showRoster puts what was applied on the process's board.
func (m *dirShard) showRoster() {
	r := m.directory.roster
	if r == m.shown || founds(m.board.Current(), r) { // tickRoster will replace it
		return
	}
	m.shown = r
	if err := m.board.Offer(r); err != nil {
		m.log.Error("the directory's roster is not this process's", "group", m.name, "err", err)
	}
}

// tickRoster has the leader of dir/0 take over a roster that is known and not in its log.
func (m *dirShard) tickRoster() {
	known, own := m.board.Current(), m.directory.roster
	newer := known != nil && (own == nil || known.Cluster == own.Cluster && known.Version > own.Version)
	if m.id != stanza.DirGroup(0) || m.learning || !newer && !founds(known, own) {
		return
	}
	m.learning = true
	m.propose(&command{op: opRoster, text: known.Append(nil)}, &pending{want: wantRoster})
}

// learnt ends the attempt to take over a roster: if it failed the next tick tries again.
func (m *dirShard) learnt(committed bool) {
	m.learning = false
	if committed {
		m.log.Info("roster taken over", "group", m.name, "version", m.directory.roster.Version, "members", len(m.directory.roster.Members))
	}
}
