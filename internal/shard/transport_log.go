package shard

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// networkMetrics are the collectors of a Network.
type networkMetrics struct {
	dials, refusals *prometheus.CounterVec
	in, out         prometheus.Gauge
}

func newNetworkMetrics(r prometheus.Registerer) (*networkMetrics, error) {
	conns := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "shard_connections", Help: "Open connections to other replicas, by direction."}, []string{"direction"})
	m := &networkMetrics{
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shard_dials_total", Help: "Connections dialled to other replicas, by result."}, []string{"result"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shard_refused_connections_total", Help: "Connections of other replicas that were refused, by cause."}, []string{"result"}),
	}
	if r != nil {
		if err := errors.Join(register(r, &conns), register(r, &m.dials), register(r, &m.refusals)); err != nil {
			return nil, fmt.Errorf("shard: registering metrics: %w", err)
		}
	}
	m.in, m.out = conns.WithLabelValues("in"), conns.WithLabelValues("out")
	return m, nil
}

// open returns the gauge of connections that were accepted or dialled.
func (m *networkMetrics) open(accepted bool) prometheus.Gauge {
	if accepted {
		return m.in
	}
	return m.out
}

// teller remembers what was logged, so that an operator reads of a change once: groups dial a node that is down several times a second
// each.
type teller struct {
	mu    sync.Mutex
	down  map[string]string // node -> why it cannot be reached
	seen  map[string]struct{}
	since time.Time // when seen was empty
}

// Bounds of what is logged about connections from outside: anybody who reaches the port can cause them, with texts of his own.
const (
	maxTold   = 256 // different ones in tellAgain; the metric counts all
	tellAgain = 10 * time.Minute
	maxReason = 512 // bytes of a text
)

// dialled counts an attempt, and logs it if it changes what is known of the node.
func (n *Network) dialled(node, addr string, err error) {
	why, result := "", "ok"
	if number := refusalNumber(err); number > 0 {
		why = refusals[number].name
		result = why
	} else if err != nil {
		why = "unreachable"
		result = why
	}
	n.metrics.dials.WithLabelValues(result).Inc()
	n.twins.heard(node, err, n.now())
	if errors.Is(err, errNotServed) || errors.Is(err, errStopping) || errors.Is(err, errEarlier) || errors.Is(err, ErrDuplicate) {
		why = "" // it is there, and just starts or ends, or the process will hear of it by Failed
	}
	n.told.mu.Lock()
	was := n.told.down[node]
	switch why {
	case was:
	case "":
		delete(n.told.down, node)
	default:
		if n.told.down == nil {
			n.told.down = map[string]string{}
		}
		n.told.down[node] = why
	}
	n.told.mu.Unlock()
	switch why {
	case was:
	case "":
		n.log.Info("replica can be reached again", "node", node, "addr", addr)
	default:
		n.log.Warn("replica cannot be reached", "node", node, "addr", addr, "err", err)
	}
}

// refused counts a connection from outside that is not served, and logs the first of its kind.
func (n *Network) refused(from net.Addr, err error) {
	n.metrics.refusals.WithLabelValues(refusals[refusalNumber(err)].name).Inc()
	if errors.Is(err, errNotServed) || errors.Is(err, errStopping) || errors.Is(err, errEarlier) || n.ctx.Err() != nil {
		return // it comes back, and is served then
	}
	host, _, splitErr := net.SplitHostPort(from.String())
	if splitErr != nil {
		host = from.String()
	}
	text := err.Error()
	text = text[:min(len(text), maxReason)]
	if n.told.first(host + " " + text) {
		n.log.Warn("connection of a replica refused", "peer", host, "err", text)
	}
}

// first reports whether something like text was not told yet, and remembers it.
func (t *teller) first(text string) bool {
	text = strings.Map(func(r rune) rune { // ports and counters differ each time
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.seen[text]; ok {
		return false
	}
	if len(t.seen) >= maxTold {
		if time.Since(t.since) < tellAgain {
			return false
		}
		clear(t.seen)
	}
	if len(t.seen) == 0 {
		t.seen, t.since = map[string]struct{}{}, time.Now()
	}
	t.seen[text] = struct{}{}
	return true
}
