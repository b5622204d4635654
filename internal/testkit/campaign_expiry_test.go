package testkit

import (
	"slices"
	"time"

	"linecard.example/internal/stanza"
)

// kept is how long a message waits for its device.
const kept = 30 * 24 * time.Hour

// expiry has messages of two ages wait for a device that is away, a month's difference made by offlines whose clocks are ahead and that take
// the lead. The old ones expire, and nothing else does; what the device finds when it comes back is the rest, in order. The load rests
// meanwhile: what is on its way would be as old. The sender is told nothing, docs/protocol.md, section 14. Each round is in the same shard:
// only there the stamps are as far ahead as the clocks were in the round before.
func (c *campaign) expiry() {
	c.healthy()
	c.load.drain()
	defer c.load.pause.Store(false)
	c.bringBack()
	Eventually(c.t, "nothing waits for anybody", func() bool { return c.waiting() == 0 })

	h, sender := c.load.h, c.s.NewDevice(nameInShard(c.fresh("patient"), c.rnd.IntN(defaultShards)), c.load.h, DeviceOptions{Receipts: true})
	away := c.s.NewDevice(nameInShard(c.fresh("away"), c.aging), h, DeviceOptions{Receipts: true, Quiet: true})
	away.Close()
	c.extra = append(c.extra, sender)
	group := stanza.QueueGroup(stanza.ShardOf(away.Self().Account, defaultShards)).String()
	const each = 20
	old, now := c.sayTo(sender, away.Name, each), c.ahead
	before := c.takeOver(group, now+kept-24*time.Hour)
	c.pass()
	c.sayTo(sender, away.Name, each)
	if n := c.expired(); n != before {
		c.t.Errorf("%v entries expired that had waited for less than %v", n-before, kept)
	}
	c.s.StartAll()
	c.untilExpired(c.takeOver(group, now+kept+24*time.Hour) + each)
	for _, id := range old {
		h.Expired(Stream{From: sender.Label(), To: away.Name}, id)
	}
	c.s.StartAll()

	back := c.s.NewDevice(away.Name, h, DeviceOptions{Home: away.Home, Receipts: true})
	c.extra, c.load.labels[away.Name] = append(c.extra, back), []string{back.Label()}
	must(c.t, sender.SayAll(away.Name, 3, 1))
	Eventually(c.t, "the device has what has not expired", func() bool { return len(back.Texts()) >= each+3 })
	Eventually(c.t, "its sender hears of that", func() bool { return sender.Delivered() >= each+3 })
	sender.mu.Lock()
	defer sender.mu.Unlock()
	if len(sender.undelivered) != 0 {
		c.t.Errorf("the sender was told of what expired: %v", sender.undelivered)
	}
}

// sayTo sends n messages, waits for their acks, and returns their ids.
func (c *campaign) sayTo(d *Device, name string, n int) (ids []uint64) {
	c.t.Helper()
	for range n {
		sent, err := d.Say(name, "for who is away")
		must(c.t, err)
		must(c.t, d.Acked(name, sent))
		ids = append(ids, sent.ID)
	}
	return ids
}

// takeOver has an offline lead a group whose clock is ahead by so much, and the stamps of the group with it. The leader before is dead then. It
// returns how many entries those that live have seen expire.
func (c *campaign) takeOver(group string, ahead time.Duration) (expired float64) {
	c.t.Helper()
	victim := c.leaders()[group]
	for _, name := range c.offlines() {
		if name != victim {
			c.setClock(name, ahead)
		}
	}
	c.ahead = ahead
	c.s.Process(victim).Kill()
	Eventually(c.t, "others lead what "+victim+" led", func() bool { return len(c.leaders()) == 2*defaultShards })
	return c.expired()
}

// pass has the clocks of offlines go on by more than an hour, so that a pass of expiry begins: that is a minute after a leadership has, and an
// hour after the pass before. Stamps do not go on with the clocks.
func (c *campaign) pass() {
	c.t.Helper()
	c.ahead += 2 * time.Hour
	for _, name := range c.offlines() {
		c.setClock(name, c.ahead)
	}
}

// untilExpired waits until so many entries have expired, and not one more.
func (c *campaign) untilExpired(n float64) {
	c.t.Helper()
	var next time.Time
	Eventually(c.t, "what waited is expired", func() bool {
		if now := time.Now(); now.After(next) {
			next = now.Add(3 * time.Second)
			c.pass() // again, for who leads only now
		}
		return c.expired() >= n
	})
	if got := c.expired(); got != n {
		c.t.Errorf("%v entries expired, want %v", got, n)
	}
}

// offlines returns the names of those that run.
func (c *campaign) offlines() []string {
	return slices.DeleteFunc(c.s.members(), func(name string) bool { return roleOf(name) != "offline" || !c.s.Process(name).Running() })
}

// waiting counts what waits for any device, or for being handed over, as the offlines say that run.
func (c *campaign) waiting() (n float64) {
	for _, name := range c.offlines() {
		m := c.s.Metrics(name)
		n += m.Sum("linecard_offline_queue_entries") + m.Sum("linecard_offline_pending_receipts")
	}
	return n
}
