package node

import (
	"github.com/prometheus/client_golang/prometheus"

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
