package node

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/admin"
	"linecard.example/internal/link"
	"linecard.example/internal/roster"
)

// rosterGauges show what a process knows of its cluster's members: processes whose versions differ for long are cut off from each other.
type rosterGauges struct {
	board            *link.Board
	version, members *prometheus.Desc
}

func newRosterGauges(board *link.Board) rosterGauges {
	return rosterGauges{board,
		prometheus.NewDesc("linecard_cluster_roster_version", "Version of the list of members that this process knows, 0: none.", nil, nil),
		prometheus.NewDesc("linecard_cluster_members", "Members of the cluster, as this process knows them.", []string{"role", "state"}, nil)}
}

// Describe implements prometheus.Collector.
func (g rosterGauges) Describe(to chan<- *prometheus.Desc) {
	to <- g.version
	to <- g.members
}

// Collect implements prometheus.Collector.
func (g rosterGauges) Collect(to chan<- prometheus.Metric) {
	r, version := g.board.Current(), 0.0
	if r != nil {
		version = float64(r.Version)
	}
	to <- prometheus.MustNewConstMetric(g.version, prometheus.GaugeValue, version)
	for _, role := range []roster.Role{roster.Router, roster.Offline} {
		for _, state := range []roster.State{roster.Active, roster.Leaving} {
			n := 0
			if r != nil {
				n = r.Count(role, state)
			}
			to <- prometheus.MustNewConstMetric(g.members, prometheus.GaugeValue, float64(n), role.String(), state.String())
		}
	}
}

// certificateGauge shows how long the certificate of the links is good. The gateway's own is issued together with it.
func (n *Node) certificateGauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "linecard_link_certificate_seconds", Help: "Seconds until the process's certificate for links expires; below 0 nobody takes it.",
	}, func() float64 { return n.certificateEnd().Sub(n.clock()).Seconds() })
}

// certificateEnd is when the certificate of the links expires.
func (n *Node) certificateEnd() time.Time { return n.tls.Certificates[0].Leaf.NotAfter }

// certificateWarning says that the certificate of the links is about to expire.
func (n *Node) certificateWarning(now time.Time) []admin.Fault {
	if n.tls == nil || now.Add(renewBefore).Before(n.certificateEnd()) {
		return nil
	}
	return []admin.Fault{{Name: "certificate", Why: fmt.Sprintf("%s.pem expires on %s: issue the keys again and restart",
		n.name(), n.certificateEnd().UTC().Format(time.DateOnly))}}
}
