package testkit

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/config"
	"linecard.example/internal/link"
	"linecard.example/internal/node"
	"linecard.example/internal/stanza"
)

// spread is a system whose every node runs in the test's process, so that goroutines and memory can be counted and faults injected:
// `up`, or two of each daemon with half of the shards each and gRPC between them.
type spread struct {
	t      *testing.T
	dir    string
	nodes  map[string]*spreadNode
	valves map[string]*valve // by "from>to"
	doors  []*System         // a view for the clients of each gateway
}

type spreadNode struct {
	*node.Node
	*inner
}

// spreadCredit is small, so that a stopped peer is out of credit soon.
const spreadCredit = 256 << 10

// upInside starts the one node of `up`.
func upInside(t *testing.T, f *link.Faults) *spread {
	t.Helper()
	s := newSpread(t)
	cfg := s.config("up")
	must(t, node.EnsureKeys(cfg))
	s.run("up", cfg, f, node.Gateway, node.Router, node.Offline)
	s.waitReady()
	s.door("up", filepath.Join(cfg.Data, "root.pub"))
	return s
}

// twoOfEach starts two gateways, routers and offlines. Every link goes through a valve.
func twoOfEach(t *testing.T, f *link.Faults) *spread {
	t.Helper()
	s := newSpread(t)
	keys := filepath.Join(s.dir, "keys")
	must(t, node.InitKeys(keys, "local", time.Now()))
	names := map[string]node.Role{
		"gateway1": node.Gateway, "gateway2": node.Gateway, "router1": node.Router, "router2": node.Router,
		"offline1": node.Offline, "offline2": node.Offline,
	}
	// to returns the addresses at which from reaches others.
	to := func(from string, names ...string) (list []string) {
		for _, n := range names {
			if n != from {
				list = append(list, s.valve(from, n))
			}
		}
		return list
	}
	for n, role := range names {
		cfg := s.config(n)
		cfg.Bootstrap = true
		cfg.Links.Keys, cfg.Links.Name, cfg.Links.Listen = keys, n, "127.0.0.1:0"
		cfg.Links.Offlines = to(n, "offline1", "offline2")
		cfg.Links.Shards = map[byte]string{'1': "0-3", '2': "4-7"}[n[len(n)-1]]
		if role == node.Gateway {
			cfg.Links.Shards = ""
			cfg.Links.Routers = to(n, "router1", "router2")
		}
		must(t, node.IssueKeys(keys, n, time.Now()))
		s.run(n, cfg, f, role)
	}
	for to, n := range s.nodes {
		if addr := n.LinkAddr(); addr != nil {
			for _, from := range []string{"offline1", "offline2", "router1", "router2", "gateway1", "gateway2"} {
				if v := s.valves[from+">"+to]; v != nil {
					v.lead(addr.String())
				}
			}
		}
	}
	s.waitReady()
	for _, n := range []string{"gateway1", "gateway2"} {
		s.door(n, filepath.Join(keys, "root.pub"))
	}
	return s
}

func newSpread(t *testing.T) *spread {
	s := &spread{t: t, dir: t.TempDir(), nodes: map[string]*spreadNode{}, valves: map[string]*valve{}}
	t.Cleanup(s.stop)
	return s
}

const spreadShards = 8

func (s *spread) config(name string) node.Config {
	cfg := node.DefaultConfig()
	cfg.Shards, cfg.Data = spreadShards, filepath.Join(s.dir, name)
	cfg.Admin.Listen, cfg.Gateway.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Offline.QueueEntries, cfg.Offline.QueueBytes = 1<<20, 1<<30 // what waits for a stopped link: a full queue drops receipts, as it should
	cfg.Admin.TurnLimit = config.Duration(stopTime / 2)             // less than a link stands still, more than a busy machine takes
	cfg.Links.Credit = spreadCredit
	cfg.Gateway.SourceEntries = 256 // gnet remembers every engine of a process, and with it the gateway, for good
	cfg.Gateway.HandshakeRate, cfg.Gateway.HandshakeBurst = 1e5, 1e5
	cfg.Gateway.RegisterRate, cfg.Gateway.RegisterBurst = 1e5, 1e5
	cfg.Gateway.LookupRate, cfg.Gateway.LookupBurst = 250, 255
	cfg.Gateway.AnswerTimeout = config.Duration(5 * time.Second) // answers that were lost are waited for in settle
	cfg.Router.LookupRate, cfg.Router.LookupBurst = 1e4, 1e4
	cfg.Router.DropRetry = config.Duration(100 * time.Millisecond)
	return cfg
}

// door makes a view of the system for clients of one gateway.
func (s *spread) door(name, root string) {
	s.doors = append(s.doors, &System{t: s.t, Shape: Inside, Server: s.nodes[name].GatewayAddr().String(), Root: root, Dir: s.dir})
}

func (s *spread) run(name string, cfg node.Config, f *link.Faults, roles ...node.Role) {
	s.t.Helper()
	must(s.t, cfg.Validate(roles...))
	log := slog.New(slog.NewTextHandler(testWriter{s.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := node.New(cfg, roles, log.With("node", name))
	if err != nil {
		s.t.Fatal(err)
	}
	if f != nil {
		for _, e := range n.Endpoints() {
			e.Inject(f)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	in := &inner{cancel: cancel, done: make(chan error, 1)}
	go func() { in.done <- n.Run(ctx, nil) }()
	s.nodes[name] = &spreadNode{n, in}
	if slices.Contains(roles, node.Gateway) {
		gatewaysRun.Add(1)
	}
}

// waitReady waits until every node says that it is ready.
func (s *spread) waitReady() {
	s.t.Helper()
	for name := range s.nodes {
		Eventually(s.t, name+" is ready", func() bool {
			status, _ := s.get(name, "/readyz")
			return status == 200
		})
	}
}

func (s *spread) get(name, path string) (int, string) {
	d := System{admin: map[string]string{name: s.nodes[name].AdminAddr().String()}}
	return d.Get(name, path)
}

// sum adds up a family over all nodes.
func (s *spread) sum(family string) (sum float64) {
	s.t.Helper()
	for name := range s.nodes {
		Eventually(s.t, "metrics of "+name, func() bool {
			status, body := s.get(name, "/metrics")
			if status == 200 {
				sum += parseMetrics(body).Sum(family)
			}
			return status == 200
		})
	}
	return sum
}

// stop ends all nodes in the order of the message path.
func (s *spread) stop() {
	for _, name := range []string{"up", "gateway1", "gateway2", "router1", "router2", "offline1", "offline2"} {
		if n := s.nodes[name]; n != nil {
			n.cancel()
			if err := <-n.done; err != nil {
				s.t.Errorf("%s ended with: %v", name, err)
			}
		}
	}
	clear(s.nodes)
	for _, v := range s.valves {
		v.close()
	}
}

// endpoints returns the ends of all links.
func (s *spread) endpoints() (all []*link.Endpoint) {
	for _, n := range s.nodes {
		all = append(all, n.Endpoints()...)
	}
	return all
}

// settle waits until nothing is left of what was exchanged: no message without an answer, nothing in a queue, no receipt under way,
// and for every role and pair of roles as many credits in use at one end as are held at the other, none of it unhandled.
func (s *spread) settle() {
	s.t.Helper()
	for _, family := range []string{
		"linecard_gateway_unanswered_messages", "linecard_offline_queue_entries", "linecard_offline_queue_bytes",
		"linecard_offline_pending_receipts", "linecard_link_unhandled_bytes", "linecard_router_pending_drops",
	} {
		Eventually(s.t, family+" is 0", func() bool { return s.sum(family) == 0 })
	}
	roles := []link.Role{link.RoleGateway, link.RoleRouter, link.RoleOffline}
	usage := func(self, peer link.Role) (u link.Usage) {
		for _, e := range s.endpoints() {
			if e.Info().Role == self {
				one := e.Usage(peer)
				u.Used, u.Taken = u.Used+one.Used, u.Taken+one.Taken
			}
		}
		return u
	}
	for _, a := range roles {
		for _, b := range roles {
			Eventually(s.t, fmt.Sprintf("%v and %v agree on their credits", a, b), func() bool { return usage(a, b).Used == usage(b, a).Taken })
		}
	}
}

// empty waits until nothing is left of sessions that ended.
func (s *spread) empty() {
	s.t.Helper()
	for _, family := range []string{
		"linecard_gateway_sessions", "linecard_gateway_connections", "linecard_router_bindings", "linecard_offline_attachments",
	} {
		Eventually(s.t, family+" is 0", func() bool { return s.sum(family) == 0 })
	}
}

// valve stands between a dialler and its peer. Shut, it takes connections and passes no byte on and no end of one: TCP without a
// network behind it. Opened again it passes on what it has.
type valve struct {
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	dest  string
	ends  map[net.Conn]struct{}
	open  chan struct{} // closed when open
	ended bool
}

// valve puts a valve between two nodes and returns the address to dial. It leads nowhere yet.
func (s *spread) valve(from, to string) string {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	v := &valve{ln: ln, ends: map[net.Conn]struct{}{}, open: make(chan struct{})}
	close(v.open)
	s.valves[from+">"+to] = v
	v.wg.Go(v.accept)
	return ln.Addr().String()
}

func (v *valve) accept() {
	for {
		c, err := v.ln.Accept()
		if err != nil {
			return
		}
		v.wg.Go(func() { v.serve(c) })
	}
}

func (v *valve) serve(c net.Conn) {
	v.pass()
	v.mu.Lock()
	dest := v.dest
	v.mu.Unlock()
	d, err := net.Dial("tcp", dest) // without a dest it fails: the dialler comes again
	if err != nil || !v.enter(c, d) {
		c.Close()
		if err == nil {
			d.Close()
		}
		return
	}
	v.wg.Go(func() { v.copy(c, d) })
	v.copy(d, c)
}

// lead says where connections go.
func (v *valve) lead(dest string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dest = dest
}

// enter notes the two ends of a connection; false when the valve is closed for good.
func (v *valve) enter(ends ...net.Conn) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range ends {
		v.ends[c] = struct{}{}
	}
	return !v.ended
}

// copy passes bytes on until either end closes, which closes the other.
func (v *valve) copy(dst, src net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		v.pass()
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			break
		}
	}
	dst.Close()
	src.Close()
	v.mu.Lock()
	delete(v.ends, dst)
	delete(v.ends, src)
	v.mu.Unlock()
}

// pass waits while the valve is shut.
func (v *valve) pass() {
	v.mu.Lock()
	open := v.open
	v.mu.Unlock()
	<-open
}

// set shuts the valve or opens it.
func (v *valve) set(open bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.open:
		if !open && !v.ended {
			v.open = make(chan struct{})
		}
	default:
		if open {
			close(v.open)
		}
	}
}

func (v *valve) close() {
	v.set(true)
	v.ln.Close()
	v.mu.Lock()
	v.ended = true
	for c := range v.ends {
		c.Close()
	}
	v.mu.Unlock()
	v.wg.Wait()
}

// homeShard returns a handle that begins with prefix, whose account lives in one of the shards low to high.
func homeShard(prefix string, low, high int) string {
	for i := 0; ; i++ {
		handle := fmt.Sprintf("%s%d", prefix, i)
		if n := stanza.HandleShard(handle, spreadShards); n >= low && n <= high {
			return handle
		}
	}
}
