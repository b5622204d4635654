package router

import (
	"bytes"
	"errors"
	"fmt"

	"linecard.example/internal/stanza"
)

func (d *directory) applyInviteCreate(c *command) result {
	key := inviteKey(&c.digest)
	_, ok, err := d.records.Get(key)
	switch {
	case err != nil:
		return d.giveUp(fmt.Errorf("directory: invite: %w", err))
	case ok:
		return result{reason: stanza.ReasonBadInvite}
	}
	d.records.Set(key, (&inviteRecord{until: c.until}).append(nil))
	return result{}
}

// applyInviteRedeem uses an invite up for one handle. The key that did so before is told yes again for the same handle, even after the
// end.
func (d *directory) applyInviteRedeem(stamp int64, c *command) result {
	key := inviteKey(&c.digest)
	v, ok, err := d.records.Get(key)
	if err == nil && !ok {
		return result{reason: stanza.ReasonBadInvite}
	}
	var invite inviteRecord
	if err == nil {
		invite, err = decodeInvite(v)
	}
	if err != nil {
		return d.giveUp(fmt.Errorf("directory: invite: %w", err))
	}
	switch {
	case invite.handle == "" && stamp < invite.until:
		invite.handle, invite.key = string(c.text), c.key
		d.records.Set(key, invite.append(nil))
	case invite.handle == "" || invite.handle != string(c.text) || invite.key != c.key:
		return result{reason: stanza.ReasonBadInvite}
	}
	return result{}
}

func (d *directory) applyInviteExpire(until int64) result {
	var ended [][]byte
	var bad error
	err := d.records.Scan([]byte{prefixInvite}, []byte{prefixInvite + 1}, func(k, v []byte) bool {
		var invite inviteRecord
		if invite, bad = decodeInvite(v); bad == nil && invite.until <= until {
			ended = append(ended, bytes.Clone(k))
		}
		return bad == nil
	})
	if err = errors.Join(err, bad); err != nil {
		return d.giveUp(fmt.Errorf("directory: invites: %w", err))
	}
	for _, k := range ended {
		d.records.Delete(k)
	}
	return result{}
}

// hasInvites reports whether any invite is remembered.
func (d *directory) hasInvites() (some bool, err error) {
	err = d.records.Scan([]byte{prefixInvite}, []byte{prefixInvite + 1}, func(_, _ []byte) bool {
		some = true
		return false
	})
	if err != nil {
		return false, d.unreadable(fmt.Errorf("directory: invites: %w", err))
	}
	return some, nil
}
