package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"linecard.example/internal/stanza"
)

// Lookup returns the account of a name, from the Home if it was looked up before: names do not move. One of another region has @ and the
// region's number behind it. Errors: ErrBadName,
// ErrUnknownName, ctx's, the client's.
func (c *Client) Lookup(ctx context.Context, name string) (Account, error) {
	folded, err := c.fold(name)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", name, ErrBadName)
	}
	if self := c.Self(); self.Handle == folded && self.Account != 0 {
		return self.Account, nil
	}
	if a, ok := c.home.contact(folded); ok {
		return a, nil
	}
	a, err := c.ask(ctx, stanza.Query{Op: stanza.OpLookup, Handle: []byte(folded)})
	if refusedFor(err, stanza.ReasonUnknownAccount) {
		return 0, fmt.Errorf("%q: %w", folded, ErrUnknownName)
	}
	if err != nil {
		return 0, fmt.Errorf("look up %q: %w", folded, err)
	}
	if a.account == 0 {
		return 0, fmt.Errorf("look up %q: the answer names no account", folded)
	}
	if a.hasList && a.list.version > 0 {
		if err := c.home.putList(a.account, a.list); err != nil {
			return 0, err
		}
	}
	return a.account, c.home.putContact(a.account, folded)
}

// fold returns a name as it is kept: a handle, with @ and the region behind it when that is not the own one.
func (c *Client) fold(name string) (string, error) {
	folded, r, err := foldName([]byte(name))
	if self := c.Self(); err != nil || self.Account == 0 || self.Account.Region() != r {
		return folded, err
	}
	handle, _, _ := stanza.SplitHandle([]byte(folded))
	return string(handle), nil
}

// foldName folds a name that may have a region behind it.
func foldName(name []byte) (string, stanza.Region, error) {
	handle, r, regional := stanza.SplitHandle(name)
	folded, err := stanza.FoldHandle(handle)
	if err != nil || !regional {
		return folded, stanza.MaxRegion + 1, err
	}
	return fmt.Sprintf("%s@%d", folded, r), r, nil
}

func refusedFor(err error, reason Reason) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && refused.Reason == reason
}

// Name returns the name of an account as far as a look-up has confirmed one; "" otherwise.
func (c *Client) Name(a Account) string {
	if self := c.Self(); a == self.Account {
		return self.Handle
	}
	name, _ := c.home.name(a)
	return name
}

// Sender returns the name of a message's sender. The server names accounts by number only, so the name is the sender's own claim, which
// is looked up once and remembered. verified is false when that was not possible before ctx ended; then name is only claimed. A name that
// is another's, or none, gives "#" and the account's number.
func (c *Client) Sender(ctx context.Context, m *Message) (name string, verified bool) {
	if name := c.Name(m.From); name != "" {
		return name, true
	}
	number := fmt.Sprintf("#%d", m.From)
	claimed, err := stanza.FoldHandle([]byte(m.Claimed))
	if err != nil || claimed != m.Claimed {
		return number, false
	}
	if r := m.From.Region(); r != c.Self().Account.Region() {
		claimed = fmt.Sprintf("%s@%d", claimed, r)
	}
	switch a, err := c.Lookup(ctx, claimed); {
	case err == nil && a == m.From:
		return claimed, true
	case err == nil, errors.Is(err, ErrUnknownName):
		return number, false
	}
	return claimed, false
}

// requestList asks for the device list of a, once at a time; the stream to a goes on when it is there. Caller holds mu.
func (c *Client) requestList(a Account) {
	if c.asked.lists[a] {
		return
	}
	c.asked.lists[a] = true
	c.asked.add(stanza.Query{Op: stanza.OpDeviceList, Account: a}, func(ans *answer, err error) {
		delete(c.asked.lists, a)
		if err == nil && ans.list.version == 0 {
			err = &RefusedError{Reason: stanza.ReasonUnknownAccount}
		}
		if err == nil {
			if err = c.home.putList(a, ans.list); err != nil {
				c.changed() // a home that cannot be written ends the client
			}
		}
		if err != nil {
			c.log.Warn("device list", "account", uint64(a), "err", err)
		}
		c.listCame(a, err)
	})
	signal(c.wake) // the writer may have been past its queries
}

// listCame lets what waited for the device list of a go on, or fail with it. Caller holds mu.
func (c *Client) listCame(a Account, err error) {
	if a == c.self.Account {
		c.becomeReady()
	}
	st := c.out.streams[a]
	if st == nil {
		return
	}
	st.needList = false
	c.out.activate(st)
	var refused *RefusedError
	if errors.As(err, &refused) {
		for _, m := range slices.Clone(st.msgs) {
			c.drop(m, &RefusedError{ID: m.rec.id, Reason: refused.Reason})
		}
	}
}

// learnOwnDevices makes sure that the own device list is the one of version, and the client ready then. Caller holds mu.
func (c *Client) learnOwnDevices(version uint64) error {
	self := c.self
	if l, ok := c.home.list(self.Account); ok && l.version == version {
		c.becomeReady()
		return nil
	}
	if version == 1 { // a new account has version 1: this is its only device
		own := []stanza.DeviceKey{{Device: self.Device, Key: c.home.PublicKey()}}
		if err := c.home.putList(self.Account, deviceList{version: 1, devices: own}); err != nil {
			return fmt.Errorf("%w: %w", errFatal, err)
		}
		c.becomeReady()
		return nil
	}
	c.requestList(c.self.Account)
	return nil
}

func (c *Client) becomeReady() {
	c.ready = true
	c.announce()
}

// meetOwnDevice looks at the list again when a device of the own account writes that is not in it. Caller holds mu.
func (c *Client) meetOwnDevice(d Device) {
	l, ok := c.home.list(c.self.Account)
	if !ok || !slices.ContainsFunc(l.devices, func(k stanza.DeviceKey) bool { return k.Device == d }) {
		c.requestList(c.self.Account)
	}
}

// Devices asks for the devices of the own account, ascending.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	if err := c.Ready(ctx); err != nil {
		return nil, err
	}
	ans, err := c.ask(ctx, stanza.Query{Op: stanza.OpDeviceList, Account: c.Self().Account})
	if err != nil {
		return nil, fmt.Errorf("device list: %w", err)
	}
	if err := c.home.putList(c.Self().Account, ans.list); err != nil {
		return nil, err
	}
	devices := make([]Device, len(ans.list.devices))
	for i := range devices {
		devices[i] = ans.list.devices[i].Device
	}
	return devices, nil
}

// LinkDevice adds the device with the static public key (of a Home that was opened on it and is nobody yet) to the own account and
// returns its number; the other Home then adopts Identity{Account, number, Handle}. Messages to the own account's other devices
// follow the new list at once.
func (c *Client) LinkDevice(ctx context.Context, key [32]byte) (Device, error) {
	if err := c.Ready(ctx); err != nil {
		return 0, err
	}
	ans, err := c.ask(ctx, stanza.Query{Op: stanza.OpLink, Key: key[:]})
	if err != nil {
		return 0, fmt.Errorf("link a device: %w", err)
	}
	if ans.device == 0 {
		return 0, errors.New("link a device: the answer names no device")
	}
	_, err = c.Devices(ctx)
	return ans.device, err
}

// UnlinkDevice removes a device from the own account; what waits for it is deleted, and its session is closed.
func (c *Client) UnlinkDevice(ctx context.Context, d Device) error {
	if err := c.Ready(ctx); err != nil {
		return err
	}
	if _, err := c.ask(ctx, stanza.Query{Op: stanza.OpUnlink, Device: d}); err != nil {
		return fmt.Errorf("unlink device %d: %w", d, err)
	}
	_, err := c.Devices(ctx)
	return err
}
