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
	if n.relay != nil {
		for _, t := range n.relay.Turned() {
			check("turnd "+t.Name, t.At)
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
	if n.border != nil {
		ok, why := n.border.Ready()
		check("border", ok, why)
	}
	if n.media != nil {
		ok, why := n.media.Ready()
		check("mediad", ok, why)
	}
	if n.relay != nil {
		ok, why := n.relay.Ready()
		check("turnd", ok, why)
	}
	if n.cluster != nil {
		return faults // members may be away: who leads what is theirs, and looked at above
	}
	return append(faults, n.missingLinks(n.wantedLinks())...)
}

// linkWant is the streams that a daemon of this process has to one role when all its links are up.
type linkWant struct {
	self  *link.Endpoint
	peer  link.Role
	local int      // ends of streams within the process
	addrs []string // dialled
}

// wantedLinks follows addLinks and connectService.
func (n *Node) wantedLinks() []linkWant {
	routers, offlines, local := n.cfg.Links.Routers, n.cfg.Links.Offlines, 0
	if n.together() {
		routers, offlines, local = nil, nil, 1
	}
	var all []linkWant
	if n.gateway != nil {
		all = append(all, linkWant{n.gateway.Endpoint(), link.RoleRouter, local, routers},
			linkWant{n.gateway.Endpoint(), link.RoleOffline, local, offlines})
	}
	if n.border != nil {
		all = append(all, linkWant{n.border.Within(), link.RoleRouter, local, routers},
			linkWant{n.border.Within(), link.RoleOffline, local, offlines})
	}
	if n.together() {
		for _, e := range n.hearers() {
			all = append(all, linkWant{e, link.RoleRouter, local, routers})
		}
	}
	if n.router != nil {
		all = append(all, linkWant{n.router.Endpoint(), link.RoleOffline, local, offlines})
	}
	if n.offline != nil {
		all = append(all, linkWant{n.offline.Endpoint(), link.RoleOffline, 2, offlines}) // both ends of its stream to itself
	}
	return all
}

// hearers are the ends of what only hears keys from routers: mediad and turnd.
func (n *Node) hearers() (all []*link.Endpoint) {
	if n.media != nil {
		all = append(all, n.media.Endpoint())
	}
	if n.relay != nil {
		all = append(all, n.relay.Endpoint())
	}
	return all
}

// hearerLinks is what one of them of its own should have: it serves without, with the keys that it knows, but not for ever.
func (n *Node) hearerLinks() (all []linkWant) {
	if n.together() || n.cluster != nil {
		return nil
	}
	for _, e := range n.hearers() {
		all = append(all, linkWant{e, link.RoleRouter, 0, n.cfg.Links.Routers})
	}
	return all
}

// rosterLinks is wantedLinks by the roster.
func (n *Node) rosterLinks() (all []linkWant) {
	for _, t := range n.rosterTargets() {
		if !t.leaving {
			all = append(all, linkWant{t.from, t.role, 0, []string{t.addr}})
		}
	}
	return all
}

// missingLinks compares the streams that are up with those that should be. Streams that others make do not count: they come as well
// when nothing can be reached from here.
func (n *Node) missingLinks(wanted []linkWant) []admin.Fault {
	var faults []admin.Fault
	for _, w := range wanted {
		var missing []string
		if have := w.self.Usage(w.peer).Local; have < w.local {
			missing = append(missing, "within the process")
		}
		for _, addr := range w.addrs {
			if !w.self.Dialled(addr, w.peer) {
				missing = append(missing, "to "+addr)
			}
		}
		if len(missing) > 0 {
			faults = append(faults, admin.Fault{
				Name: fmt.Sprintf("link %s to %s", w.self.Info().Role, w.peer), Why: "no stream " + strings.Join(missing, ", "),
			})
		}
	}
	return faults
}
