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
	if n.border != nil {
		ok, why := n.border.Ready()
		check("border", ok, why)
	}
	if n.media != nil {
		ok, why := n.media.Ready()
		check("mediad", ok, why)
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
	if n.media != nil && n.together() {
		all = append(all, linkWant{n.media.Endpoint(), link.RoleRouter, local, routers})
	}
	if n.router != nil {
		all = append(all, linkWant{n.router.Endpoint(), link.RoleOffline, local, offlines})
	}
	if n.offline != nil {
		all = append(all, linkWant{n.offline.Endpoint(), link.RoleOffline, 2, offlines}) // both ends of its stream to itself
	}
	return all
}

// mediaLinks is what a mediad of its own should have: it serves without, with the keys that it knows, but not for ever.
func (n *Node) mediaLinks() []linkWant {
	if n.media == nil || n.together() || n.cluster != nil {
		return nil
	}
	return []linkWant{{n.media.Endpoint(), link.RoleRouter, 0, n.cfg.Links.Routers}}
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
