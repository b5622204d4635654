package testkit

import (
	"fmt"
	"time"
)

// clockSteps moves the clock of a leading offline and a leading router by an hour, forwards, and back behind the true time, with a kill
// of another member after each step, so that connections are made and leaders elected by wrong clocks. Nothing may expire by it.
func (c *campaign) clockSteps() {
	c.healthy()
	victims := []string{c.leading("offline"), c.leading("router")}
	var clocks []*clock
	for _, victim := range victims {
		clock, err := newClock(c.s.Process(victim).PID())
		must(c.t, err)
		clocks = append(clocks, clock)
	}
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		c.measure("two leaders' clocks step to "+by.String(), victims, func() {
			for _, clock := range clocks {
				must(c.t, clock.step(by))
			}
			time.Sleep(500 * time.Millisecond) // the fault lasts so long, under load
		})
		for _, victim := range victims {
			c.s.Process(fmt.Sprintf("%s-%d", roleOf(victim), int(machineOf(victim)[0]-'0')%3+1)).Kill()
		}
		c.s.StartAll()
		c.load.served()
	}
	for _, victim := range victims { // its leaderships go to true clocks
		c.s.Process(victim).Kill()
	}
	c.s.StartAll()
	c.load.served()
	if n := c.expired(); n != 0 {
		c.t.Errorf("%v messages expired", n)
	}
}

// expired counts the messages that expired, as the members say that run.
func (c *campaign) expired() (n float64) {
	for _, name := range c.s.members() {
		_, page := c.s.Get(name, "/metrics")
		n += parseMetrics(page).Sum("linecard_offline_expired_entries_total")
	}
	return n
}
