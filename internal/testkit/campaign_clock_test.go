package testkit

import (
	"fmt"
	"net/http"
	"time"
)

// clockSteps moves the clock of a leading offline and a leading router by an hour, forwards, and back behind the true time, with a kill
// of another member after each step, so that connections are made and leaders elected by wrong clocks. Nothing may expire by it.
func (c *campaign) clockSteps() {
	c.healthy()
	victims := []string{c.leading("offline"), c.leading("router")}
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		c.measure("two leaders' clocks step to "+by.String(), victims, func() {
			for _, victim := range victims {
				c.setClock(victim, by)
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

// setClock has a member's wall clock differ from the machine's by so much, and looks at whether it does.
func (c *campaign) setClock(name string, by time.Duration) {
	c.t.Helper()
	pid := c.s.Process(name).PID()
	if c.clocks[pid] == nil {
		clock, err := newClock(pid)
		must(c.t, err)
		c.clocks[pid] = clock
	}
	must(c.t, c.clocks[pid].step(by))
	resp, err := http.Get("http://" + c.s.Admin(name) + "/healthz")
	must(c.t, err)
	must(c.t, resp.Body.Close())
	at, err := http.ParseTime(resp.Header.Get("Date"))
	must(c.t, err)
	if off := time.Until(at) - by; off.Abs() > 15*time.Minute { // a second, were the machine not busy
		c.t.Fatalf("%s: its clock is %v from where it was put, by %v", name, off, by)
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
