package node

import (
	"fmt"
	"time"

	"linecard.example/internal/admin"
)

// unhealthy lists the loops and shard goroutines that have not turned for too long: stuck ones, which a restart cures.
func (n *Node) unhealthy(now time.Time) []admin.Fault {
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
	return faults
}
