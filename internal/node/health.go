package node

import (
	"fmt"
	"strings"
	"time"

	"linecard.example/internal/admin"
	"linecard.example/internal/link"
)

// unhealthy lists the loops and shard goroutines that have not turned for too long: stuck ones, which a restart cures. A process that
// is going down has none: its daemons end one after the other, and a restart would cut their flushes short.
func (n *Node) unhealthy(now time.Time) []admin.Fault {
	if n.stopping.Load() {
		return nil
	}
	limit := n.cfg.Admin.TurnLimit.D()
	var faults []admin.Fault
	check := func(name string, at time.Time) {
		if age := now.Sub(at); age > limit {
			faults = append(faults, admin.Fault{Name: name, Why: fmt.Sprintf("has not turned for %v", age.Round(time.Millisecond))})
		}
	}
	if n.gateway != nil {
		for _, t := range n.gateway.Turned() {
			check("gateway "+t.Name, t.At)
		}
	}
	if n.router != nil {
		for _, t := range n.router.Turned() {
			check("router "+t.Name, t.At)
		}
	}
	if n.offline != nil {
		for _, t := range n.offline.Turned() {
			check("offline "+t.Name, t.At)
		}
	}
	return faults
}

// unready lists why this process should get no new clients.
func (n *Node) unready(time.Time) []admin.Fault {
	if n.stopping.Load() {
		return []admin.Fault{{Name: "process", Why: "draining"}}
	}
	var faults []admin.Fault
	check := func(name string, ok bool, why string) {
		if !ok {
			faults = append(faults, admin.Fault{Name: name, Why: why})
		}
	}
	if n.gateway != nil {
		ok, why := n.gateway.Ready()
		check("gateway", ok, why)
	}
	if n.router != nil {
		ok, why := n.router.Ready()
		check("router", ok, why)
	}
	if n.offline != nil {
		ok, why := n.offline.Ready()
		check("offline", ok, why)
	}
	return append(faults, n.missingLinks()...)
}

// linkWant is how many streams a daemon of this process has when all its links are up.
type linkWant struct {
	self, peer link.Role
	streams    int
	addrs      []string // dialled; nil within a process
}

// wantedLinks follows addLinks and connectService.
func (n *Node) wantedLinks() []linkWant {
	routers, offlines := n.cfg.Links.Routers, n.cfg.Links.Offlines
	if n.together() {
		routers, offlines = nil, nil
	}
	count := func(addrs []string) int {
		if n.together() {
			return 1
		}
		return len(addrs)
	}
	var all []linkWant
	if n.gateway != nil {
		all = append(all, linkWant{link.RoleGateway, link.RoleRouter, count(routers), routers},
			linkWant{link.RoleGateway, link.RoleOffline, count(offlines), offlines})
	}
	if n.router != nil {
		all = append(all, linkWant{link.RoleRouter, link.RoleOffline, count(offlines), offlines})
	}
	if n.offline != nil {
		// Its stream to itself has both ends here. Streams from others that dial us hide a missing one of ours.
		all = append(all, linkWant{link.RoleOffline, link.RoleOffline, 2 + len(offlines), offlines})
	}
	return all
}

// missingLinks compares the streams that are up with those that should be. The links package tells only through its gauge.
func (n *Node) missingLinks() []admin.Fault {
	up, err := n.streamsUp()
	if err != nil {
		return []admin.Fault{{Name: "links", Why: err.Error()}}
	}
	var faults []admin.Fault
	for _, w := range n.wantedLinks() {
		if have := up[[2]string{w.self.String(), w.peer.String()}]; have < w.streams {
			why := fmt.Sprintf("%d of %d streams up", have, w.streams)
			if len(w.addrs) > 0 {
				why += " to " + strings.Join(w.addrs, ", ")
			}
			faults = append(faults, admin.Fault{Name: fmt.Sprintf("link %s to %s", w.self, w.peer), Why: why})
		}
	}
	return faults
}

// streamsUp returns the streams that are up by own role and the peer's.
func (n *Node) streamsUp() (map[[2]string]int, error) {
	families, err := n.reg.Gather()
	if err != nil {
		return nil, fmt.Errorf("counting streams: %w", err)
	}
	up := map[[2]string]int{}
	for _, f := range families {
		if f.GetName() != "linecard_link_streams" {
			continue
		}
		for _, m := range f.GetMetric() {
			var key [2]string
			for _, l := range m.GetLabel() {
				switch l.GetName() {
				case "role":
					key[0] = l.GetValue()
				case "peer":
					key[1] = l.GetValue()
				}
			}
			up[key] = int(m.GetGauge().GetValue())
		}
	}
	return up, nil
}
