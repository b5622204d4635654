package testkit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/stanza"
)

// hold is how long a fault lasts that has no end of its own: several times the 300 ms after which another leader is elected, and in the
// long run also longer than the 10 s after which links are given up.
func (c *campaign) hold() time.Duration {
	if c.long && c.rnd.IntN(2) == 0 {
		return 15 * time.Second
	}
	return 1500 * time.Millisecond
}

// calm is no fault: what the load sees without one.
func (c *campaign) calm() {
	c.measure("none", nil, func() { time.Sleep(time.Second) }) // of load
}

// kill kills a process at a random moment. Half of the kills come while the cluster may still be at work on the last one; of the others it is
// noted how long it takes until somebody else serves in its place, or for the gateway, which nobody replaces here, until it is back.
func (c *campaign) kill() {
	victim, calm := c.target(), c.rnd.IntN(2) == 0
	if calm {
		c.healthy()
	}
	c.pauseUpTo(time.Second)
	if !calm {
		c.s.Process(victim).Kill()
		c.pauseUpTo(time.Second)
		c.bringBack()
		return
	}
	c.measure("kill -9 of one "+roleOf(victim), []string{victim}, func() {
		c.s.Process(victim).Kill()
		if victim == "gateway" {
			c.bringBack()
		}
	})
	c.bringBack()
}

// bringBack starts what does not run. Clients connect at once, as when a network comes back: else backoff grows from fault to fault, and the load
// falls asleep.
func (c *campaign) bringBack() {
	c.s.StartAll()
	for _, d := range slices.Concat(c.load.devices, c.extra) {
		d.Hurry()
	}
}

// target draws what to kill next. Every process comes before any comes again, in a new order each time.
func (c *campaign) target() string {
	if len(c.left) == 0 {
		c.left = append(c.s.members(), "gateway")
		c.rnd.Shuffle(len(c.left), func(i, j int) { c.left[i], c.left[j] = c.left[j], c.left[i] })
	}
	name := c.left[0]
	c.left = c.left[1:]
	return name
}

// stopped stops a leader with SIGSTOP, until others lead and know what it does not, and lets it go on: it must not answer from what it
// knows. An account gets a second device meanwhile; a message that the old leader took for the first one only would be lost to the second.
func (c *campaign) stopped(role string) {
	c.healthy()
	victim := c.leading(role)
	var shard int
	for group, leader := range c.leaders() {
		if leader == victim {
			shard = shardOfGroup(group)
		}
	}
	linker := c.s.NewDevice(nameInShard(c.fresh("l"), shard), c.load.h, DeviceOptions{Receipts: true})
	sender := c.s.NewDevice(nameInShard(c.fresh("s"), shard), c.load.h, DeviceOptions{Receipts: true})
	var second *Device
	c.measure("SIGSTOP of a leading "+role, []string{victim}, func() {
		p := c.s.Process(victim)
		p.Pause()
		defer p.Resume()
		home := client.MemoryHome()
		second = c.link(linker, home)
		time.Sleep(c.hold()) // the fault lasts so long, under load
		p.Resume()
		must(c.t, sender.SayAll(linker.Name, 8, 1))
	})
	c.load.labels[linker.Name] = []string{linker.Label(), second.Label()}
	c.extra = append(c.extra, linker, second, sender)
}

// fresh makes a part of a name that no round before has had.
func (c *campaign) fresh(what string) string {
	return fmt.Sprintf("%s%d-", what, time.Now().UnixNano()%1e9)
}

// link adds a device to an account, which takes a leader that can commit.
func (c *campaign) link(d *Device, home *client.Home) *Device {
	c.t.Helper()
	var number stanza.Device
	Eventually(c.t, "a second device is linked", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var err error
		number, err = d.LinkDevice(ctx, home.PublicKey())
		return err == nil
	})
	id := d.Self()
	id.Device = number
	must(c.t, home.Adopt(id))
	return c.s.NewDevice(d.Name, c.load.h, DeviceOptions{Home: home, Receipts: true})
}

// machineCut takes all of the network from one of the three machines.
func (c *campaign) machineCut() {
	c.healthy()
	victim := c.leading("offline")
	machine := machineOf(victim)
	c.measure("a machine cut off", []string{"router-" + machine, "offline-" + machine}, func() {
		for _, other := range c.g.machines() {
			if other != machine {
				c.g.cut(c.t, machine, other)
				c.g.cut(c.t, other, machine)
			}
		}
		time.Sleep(c.hold()) // the fault lasts so long, under load
		c.g.heal(c.t)
	})
}

// gatewayCut keeps a machine and the gateway from each other, while the machine goes on to lead: nobody else takes over.
func (c *campaign) gatewayCut() {
	c.healthy()
	machine := machineOf(c.leading("router"))
	c.measure("a leader cut off from gateways only", []string{"router-" + machine, "offline-" + machine}, func() {
		c.g.cut(c.t, machine, gatewayMachine)
		c.g.cut(c.t, gatewayMachine, machine)
		time.Sleep(c.hold()) // the fault lasts so long, under load
		c.g.heal(c.t)
	})
}

// halfCut takes the network from a machine towards the other two in one direction: they do not hear it, or it does not hear them.
func (c *campaign) halfCut(mute bool) {
	c.healthy()
	machine, name := machineOf(c.leading("offline")), "a machine that the others do not hear"
	if !mute {
		name = "a machine that does not hear the others"
	}
	c.measure(name, []string{"router-" + machine, "offline-" + machine}, func() {
		for _, other := range []string{"1", "2", "3"} {
			switch {
			case other == machine:
			case mute:
				c.g.cut(c.t, machine, other)
			default:
				c.g.cut(c.t, other, machine)
			}
		}
		time.Sleep(c.hold()) // the fault lasts so long, under load
		c.g.heal(c.t)
	})
}

// machineOf is the machine of a member.
func machineOf(name string) string {
	_, n, _ := strings.Cut(name, "-")
	return n
}
