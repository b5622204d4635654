package testkit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// costs is what the faults of a campaign cost, by the fault's name.
type costs struct {
	order []string
	of    map[string]*cost
}

// cost is how long senders to single shards had no ack, in each round of a fault.
type cost struct {
	affected []time.Duration // of shards for which something of the victims led a group
	others   []time.Duration
	resent   []float64 // messages that clients sent more than once, by round
}

func (c *costs) add(name string) *cost {
	if c.of == nil {
		c.of = map[string]*cost{}
	}
	if c.of[name] == nil {
		c.of[name] = &cost{}
		c.order = append(c.order, name)
	}
	return c.of[name]
}

// String is a table for people and for docs/operations.md.
func (c *costs) String() string {
	var b strings.Builder
	b.WriteString("| fault | shards of the victim: without service, p50 / max | other shards, p50 / max | sent again, p50 | rounds |\n| --- | --- | --- | --- | --- |\n")
	for _, name := range c.order {
		x := c.of[name]
		fmt.Fprintf(&b, "| %s | %s | %s | %.0f | %d |\n", name, halfAndMost(x.affected), halfAndMost(x.others), middle(x.resent), len(x.resent))
	}
	return b.String()
}

func halfAndMost(d []time.Duration) string {
	if len(d) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f / %.2f s", middle(d).Seconds(), slices.Max(d).Seconds())
}

func middle[T cmp.Ordered](v []T) (m T) {
	if len(v) > 0 {
		m = slices.Sorted(slices.Values(v))[len(v)/2]
	}
	return m
}

// measure notes what f costs, which breaks the victims and mends what it broke. It returns when all shards are served again.
func (c *campaign) measure(name string, victims []string, f func()) {
	c.t.Helper()
	led := map[int]bool{}
	for group, leader := range c.leaders() {
		if slices.Contains(victims, leader) || slices.Contains(victims, "gateway") {
			led[shardOfGroup(group)] = true
		}
	}
	sent, seen := c.sent(), c.arrived()
	from := time.Since(c.load.began)
	f()
	to := c.load.served()
	x := c.costs.add(name)
	for shard := range defaultShards {
		gap := c.load.gap(shard, from, to)
		if led[shard] {
			x.affected = append(x.affected, gap)
		} else {
			x.others = append(x.others, gap)
		}
	}
	x.resent = append(x.resent, max(0, (c.arrived()-seen)-(c.sent()-sent)))
	c.t.Logf("%s: %v: %d shards of the victims, %.2fs the longest; the others %.2fs the longest; over after %.1fs", name, victims, len(led),
		longestOf(x.affected, len(led)).Seconds(), longestOf(x.others, defaultShards-len(led)).Seconds(), (to - from).Seconds())
}

func longestOf(d []time.Duration, newest int) (longest time.Duration) {
	for _, v := range d[len(d)-newest:] {
		longest = max(longest, v)
	}
	return longest
}

func (c *campaign) sent() float64 {
	n, _, _ := c.load.h.Totals()
	return float64(n)
}

// arrived counts the messages that came to the gateway, each time that a client sent one. A gateway that was killed has begun anew.
func (c *campaign) arrived() float64 {
	_, page := c.s.Get("gateway", "/metrics")
	return parseMetrics(page)[`linecard_gateway_stanzas_total{direction="up",kind="message"}`]
}

// leaders says which process leads each group. A member that does not answer leads nothing.
func (c *campaign) leaders() map[string]string {
	led := map[string]string{}
	for _, name := range c.s.members() {
		_, page := c.s.Get(name, "/metrics")
		for series, leads := range parseMetrics(page) {
			if group, ok := strings.CutPrefix(series, "linecard_"+roleOf(name)+"_shard_leader"); ok && leads == 1 {
				led[strings.Trim(strings.TrimPrefix(group, `{group=`), `"}`)] = name
			}
		}
	}
	return led
}

// leading returns the member of a role that leads most groups. Between two leaders there may be none, so it waits for one.
func (c *campaign) leading(role string) string {
	count := map[string]int{}
	Eventually(c.t, "a leading "+role, func() bool {
		for _, name := range c.leaders() {
			if roleOf(name) == role {
				count[name]++
			}
		}
		return len(count) > 0
	})
	return slices.MaxFunc(slices.Sorted(maps.Keys(count)), func(a, b string) int { return cmp.Compare(count[a], count[b]) })
}
