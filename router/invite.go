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

// applyInviteRedeem uses an invite up. The key that did so before is told yes again up to maxRedeems, even after the end.
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
	if invite.uses == 0 && stamp < invite.until {
		invite.key = c.key
	} else if invite.uses == 0 || invite.uses == maxRedeems || invite.key != c.key {
		return result{reason: stanza.ReasonBadInvite}
	}
	invite.uses++
	d.records.Set(key, invite.append(nil))
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
	return some, err
}
