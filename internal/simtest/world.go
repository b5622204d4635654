package simtest

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"linecard.example/internal/history"
	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// Size of the simulated cluster.
const (
	machines = 3
	gateways = 2
	cluster  = "simulated"
)

// World is one simulated cluster with its clients. It lives in a synctest bubble, and its only source of chance is the seed; what happens
// at the same moment of simulated time happens in the order of Go's scheduler.
type World struct {
	Seed    uint64
	Verbose bool // the processes' logs are part of the trace

	plan    plan
	weather *weather
	mesh    *shard.Mesh
	procs   []*process
	hist    *history.History
	out     *traceWriter
	faults  sync.WaitGroup // those that are under way

	mu       sync.Mutex // of everything below, gateways, sessions and devices
	gws      [gateways]*gateway
	accounts []*account
	devices  []*device
	ends     map[string]*endpoint
	edges    map[way]*edge
	ended    bool
	quiet    bool      // nobody writes anything new
	hurry    time.Time // until then everybody is busy with the directory
	jitters  *rand.Rand
	began    time.Time
}

// endpoint is a process that is up, to its peers.
type endpoint struct {
	role link.Role
	ep   *link.Endpoint
}

// edge is a stream between two processes, or the attempts at one. made is closed when stop is set.
type edge struct {
	made chan struct{}
	stop func()
}

func newWorld(seed uint64, verbose bool) *World {
	w := &World{Seed: seed, Verbose: verbose, plan: newPlan(seed), hist: history.New(), ends: map[string]*endpoint{}, edges: map[way]*edge{}, began: time.Now()}
	w.out = &traceWriter{w: w}
	w.jitters = w.source("jitter")
	w.weather = newWeather(seed, w.plan.climate)
	w.mesh = shard.NewMesh(500*time.Millisecond, w.weather.raft)
	for _, role := range []link.Role{link.RoleRouter, link.RoleOffline} {
		for m := range machines {
			w.procs = append(w.procs, newProcess(w, role, m+1))
		}
	}
	return w
}

// source returns randomness for one purpose.
func (w *World) source(what string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(what))
	return rand.New(rand.NewPCG(w.Seed, h.Sum64()))
}

func (w *World) jitter() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.jitters.Float64()
}

// begin has a fault take its course.
func (w *World) begin(f func()) { w.faults.Go(f) }

// after calls f, under mu, when d has passed.
func (w *World) after(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		f()
	})
}

func gatewayName(n int) string { return fmt.Sprintf("%s%d", link.RoleGateway, n+1) }
func gatewayNode(n int) uint64 { return uint64(10*int(link.RoleGateway) + n + 1) }

// nameOf returns the process behind a link.
func (w *World) nameOf(i link.Info) string { return fmt.Sprintf("%s%d", i.Role, i.Node%10) }

func (w *World) dirOf(a stanza.Account) stanza.Group {
	return stanza.DirGroup(stanza.ShardOf(a, w.plan.shards))
}
func (w *World) queueOf(a stanza.Account) stanza.Group {
	return stanza.QueueGroup(stanza.ShardOf(a, w.plan.shards))
}
func (w *World) handleDir(handle string) stanza.Group {
	return stanza.DirGroup(stanza.HandleShard(handle, w.plan.shards))
}

// anyGateway returns one that is up, nil if none is. Under mu.
func (w *World) anyGateway(r *rand.Rand) *gateway {
	first := r.IntN(gateways)
	for i := range gateways {
		if g := w.gws[(first+i)%gateways]; g != nil && !g.dead {
			return g
		}
	}
	return nil
}

func (w *World) accountOf(n stanza.Account) *account {
	for _, a := range w.accounts {
		if a.number == n {
			return a
		}
	}
	return nil
}

func (w *World) deviceOf(n stanza.Account, number stanza.Device) *device {
	if a := w.accountOf(n); a != nil {
		for _, d := range a.devices {
			if d.number == number {
				return d
			}
		}
	}
	return nil
}

// leaderOf returns the process that leads a group as the gateways know it, "" if none does.
func (w *World) leaderOf(g stanza.Group) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var term uint64
	name := ""
	for _, gw := range w.gws {
		if gw != nil && gw.routes[g].to != nil && gw.routes[g].term > term {
			term, name = gw.routes[g].term, w.nameOf(gw.routes[g].to.Peer())
		}
	}
	return name
}

// rush has everybody who is there be busy with the directory for a while.
func (w *World) rush(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hurry = time.Now().Add(d)
	for _, x := range w.devices {
		x.live()
	}
}

// links reports whether processes of two roles have a stream.
func links(a, b link.Role) bool {
	return a != b || a == link.RoleOffline
}

// connect makes the streams of a process that came up to all that are. No lock is held while they are made.
func (w *World) connect(name string, role link.Role, ep *link.Endpoint) {
	type peer struct {
		name string
		ep   *link.Endpoint
		edge *edge
	}
	var peers []peer
	w.mu.Lock()
	for _, other := range w.names() {
		o := w.ends[other]
		if o == nil || other == name || !links(role, o.role) {
			continue
		}
		e := &edge{made: make(chan struct{})}
		w.edges[way{min(name, other), max(name, other)}] = e
		peers = append(peers, peer{other, o.ep, e})
	}
	w.ends[name] = &endpoint{role, ep}
	w.mu.Unlock()
	for _, p := range peers {
		p.edge.stop = link.Connect(ep, p.ep)
		close(p.edge.made)
	}
}

// names returns all processes in a fixed order.
func (w *World) names() (all []string) {
	for n := range gateways {
		all = append(all, gatewayName(n))
	}
	for _, p := range w.procs {
		all = append(all, p.name)
	}
	return all
}

// disconnect ends the streams of a process and waits for that.
func (w *World) disconnect(name string) {
	var mine []*edge
	w.mu.Lock()
	delete(w.ends, name)
	for _, other := range w.names() {
		x := way{min(name, other), max(name, other)}
		if e := w.edges[x]; e != nil {
			mine = append(mine, e)
			delete(w.edges, x)
		}
	}
	w.mu.Unlock()
	for _, e := range mine {
		<-e.made
		e.stop()
	}
}

// startGateway starts the next run of a gateway.
func (w *World) startGateway(n int, run uint64) {
	w.weather.revive(gatewayName(n))
	g := newGateway(w, n, run)
	w.mu.Lock()
	w.gws[n] = g
	w.mu.Unlock()
	w.connect(g.name, link.RoleGateway, g.ep)
}

// maxTrace bounds what is kept of a run's trace.
const maxTrace = 4 << 20

// traceWriter keeps what happened, with its times. Safe for concurrent use.
type traceWriter struct {
	w   *World
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer, for the processes' logs.
func (t *traceWriter) Write(p []byte) (int, error) {
	t.line(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (t *traceWriter) line(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf.Len() < maxTrace {
		fmt.Fprintf(&t.buf, "%12v %s\n", time.Since(t.w.began), s)
	}
}

func (w *World) note(format string, args ...any) { w.out.line(fmt.Sprintf(format, args...)) }

// trace returns what happened, and a hash of it.
func (w *World) trace() (string, uint64) {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	h := fnv.New64a()
	h.Write(w.out.buf.Bytes())
	return w.out.buf.String(), h.Sum64()
}
