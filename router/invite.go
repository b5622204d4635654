package router

import (
	"bytes"

	"linecard.example/internal/stanza"
)

func (d *directory) applyInviteCreate(c *command) result {
	key := inviteKey(&c.digest)
	if _, ok, err := d.records.Get(key); ok || err != nil {
		must(err)
		return result{reason: stanza.ReasonBadInvite}
	}
	d.records.Set(key, (&inviteRecord{until: c.until}).append(nil))
	return result{}
}

// applyInviteRedeem uses an invite up. The key that did so before is told yes again, even after the end: it may have crashed
// between redeeming and registering.
func (d *directory) applyInviteRedeem(stamp int64, c *command) result {
	key := inviteKey(&c.digest)
	v, ok, err := d.records.Get(key)
	must(err)
	if !ok {
		return result{reason: stanza.ReasonBadInvite}
	}
	invite, err := decodeInvite(v)
	must(err)
	switch {
	case invite.redeemed && invite.key == c.key:
	case invite.redeemed, stamp >= invite.until:
		return result{reason: stanza.ReasonBadInvite}
	default:
		invite.redeemed, invite.key = true, c.key
		d.records.Set(key, invite.append(nil))
	}
	return result{}
}

func (d *directory) applyInviteExpire(until int64) {
	var ended [][]byte
	must(d.records.Scan([]byte{prefixInvite}, []byte{prefixInvite + 1}, func(k, v []byte) bool {
		invite, err := decodeInvite(v)
		must(err)
		if invite.until <= until {
			ended = append(ended, bytes.Clone(k))
		}
		return true
	}))
	for _, k := range ended {
		d.records.Delete(k)
	}
}

// hasInvites reports whether any invite is remembered.
func (d *directory) hasInvites() (some bool, err error) {
	err = d.records.Scan([]byte{prefixInvite}, []byte{prefixInvite + 1}, func(_, _ []byte) bool {
		some = true
		return false
	})
	return some, err
}
