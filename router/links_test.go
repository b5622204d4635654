package router

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// fakeDaemon is a gateway or an offline over a real link: it keeps what comes, and the test waits for it.
type fakeDaemon struct {
	t        *testing.T
	endpoint *link.Endpoint
	mu       sync.Mutex
	stream   *link.Stream
	got      []link.Envelope
	came     chan struct{} // has room for one
}

func newFakeDaemon(t *testing.T, role link.Role, node, incarnation uint64) *fakeDaemon {
	d := &fakeDaemon{t: t, came: make(chan struct{}, 1)}
	info := link.Info{Role: role, Node: node, Incarnation: incarnation, Shards: testShards, Cluster: "test"}
	d.endpoint = link.NewEndpoint(info, d, link.Options{})
	return d
}

func (d *fakeDaemon) Up(s *link.Stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stream = s
}
func (d *fakeDaemon) Down(*link.Stream, error) {}
func (d *fakeDaemon) Receive(s *link.Stream, batch []link.Envelope) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range batch {
		e := batch[i]
		e.Payload = bytes.Clone(e.Payload)
		d.got = append(d.got, e)
		s.Done(e.Group, batch[i].Size())
	}
	select {
	case d.came <- struct{}{}:
	default:
	}
}

func (d *fakeDaemon) send(e link.Envelope) {
	d.t.Helper()
	d.mu.Lock()
	s := d.stream
	d.mu.Unlock()
	if err := s.Send(&e); err != nil {
		d.t.Fatal(err)
	}
}

// wait returns the first envelope, from now on, of the kind and group, and forgets it and all before it of that group.
func (d *fakeDaemon) wait(kind link.Kind, g stanza.Group) link.Envelope {
	d.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		d.mu.Lock()
		for i, e := range d.got {
			if e.Kind == kind && e.Group == g {
				rest := slices.DeleteFunc(slices.Clone(d.got[:i]), func(e link.Envelope) bool { return e.Group == g })
				d.got = append(rest, d.got[i+1:]...)
				d.mu.Unlock()
				return e
			}
		}
		d.mu.Unlock()
		select {
		case <-d.came:
		case <-deadline:
			d.t.Fatalf("no %v of %v", kind, g)
		}
	}
}

// daemon is a real router of all shards on an in-memory file system.
type daemon struct {
	t    *testing.T
	r    *Router
	host *shard.Host
	stop context.CancelFunc
	done chan error
	reg  *prometheus.Registry
}

func startRouter(t *testing.T, fs vfs.FS, first bool, change func(*Config, *Deps)) *daemon {
	t.Helper()
	host, err := shard.OpenHost(shard.HostConfig{Dir: "router", FS: fs, NodeID: "n1", Bootstrap: first, Heartbeat: 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, host: host, done: make(chan error, 1), reg: prometheus.NewRegistry()}
	cfg := DefaultConfig()
	deps := Deps{Node: 50, Incarnation: 1, Shards: testShards, Cluster: "test", Host: host, Groups: []int{0, 1, 2, 3}, Registerer: d.reg,
		Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg, &deps)
	}
	if d.r, err = New(cfg, deps); err != nil {
		t.Fatal(errors.Join(err, host.Close()))
	}
	ctx, stop := context.WithCancel(t.Context())
	d.stop = stop
	go func() { d.done <- d.r.Run(ctx) }()
	return d
}

func (d *daemon) close() {
	d.t.Helper()
	d.stop()
	if err := <-d.done; err != nil {
		d.t.Error(err)
	}
	if err := d.host.Close(); err != nil {
		d.t.Error(err)
	}
}

// TestOverLinks goes through a device's life on the real things: router, raft groups, links.
func TestOverLinks(t *testing.T) {
	disk := vfs.NewMem()
	d := startRouter(t, disk, true, nil)
	gw, queue := newFakeDaemon(t, link.RoleGateway, 1, 1), newFakeDaemon(t, link.RoleOffline, 2, 1)
	stopGateway, stopQueue := link.Connect(gw.endpoint, d.r.Endpoint()), link.Connect(d.r.Endpoint(), queue.endpoint)
	dir, qg := stanza.DirGroup(testShard), stanza.QueueGroup(testShard)
	for n := range testShards {
		queue.wait(link.KindHello, stanza.DirGroup(n))
	}
	term := gw.wait(link.KindHello, dir).Term
	queue.send(link.Envelope{Kind: link.KindHello, Group: qg, Term: 4})
	gw.send(link.Envelope{Kind: link.KindRebindDone, Group: dir, Term: term})
	if e := queue.wait(link.KindAttachDone, qg); e.Term != 4 {
		t.Errorf("attachments done for term %d", e.Term)
	}

	register := stanza.Register{Handle: []byte(handleIn("ann"))}
	k := key(1)
	gw.send(link.Envelope{Kind: link.KindRegister, Group: dir, Slot: 3, Gen: 1, Payload: register.Append(k[:])})
	bound := gw.wait(link.KindBound, dir)
	if e := queue.wait(link.KindAttach, qg); e.Account != bound.Account || e.Slot != 3 || e.Gateway.Node != 1 {
		t.Errorf("attach %+v", e)
	}
	c := client{account: bound.Account, device: 1, key: key(1), slot: 3}
	k = key(2)
	link2 := stanza.Query{ID: 1, Op: stanza.OpLink, Key: k[:]}
	gw.send(link.Envelope{Kind: link.KindQuery, Group: dir, Slot: 3, Gen: 1, Account: c.account, Device: 1, ID: 1, Payload: link2.Append(nil)})
	gw.wait(link.KindResult, dir)
	message := messageEnv(client{account: 999, device: 1, slot: 7}, 8, c.account, 2, 1, 2)
	gw.send(message)
	if e := queue.wait(link.KindStore, qg); e.ID != 8 || e.Gateway != (link.GatewayID{Node: 1, Incarnation: 1}) || !bytes.Equal(e.Payload, message.Payload) {
		t.Errorf("stored %+v", e)
	}
	gw.send(link.Envelope{Kind: link.KindNote, Group: dir, Account: c.account, Device: 1, ID: 2048})
	unlink := stanza.Query{ID: 2, Op: stanza.OpUnlink, Device: 2}
	gw.send(link.Envelope{Kind: link.KindQuery, Group: dir, Slot: 3, Gen: 1, Account: c.account, Device: 1, ID: 2, Payload: unlink.Append(nil)})
	gw.wait(link.KindResult, dir)
	queue.wait(link.KindDropQueue, qg)
	checkReady(t, d)

	// A new router process: the gateway re-binds with the old serial, the queue's leader is told, the drop is asked for again.
	d.close()
	stopGateway()
	stopQueue()
	d = startRouter(t, disk, false, nil)
	defer d.close()
	defer link.Connect(gw.endpoint, d.r.Endpoint())()
	next := gw.wait(link.KindHello, dir).Term
	if next <= term {
		t.Errorf("term %d after %d", next, term)
	}
	gw.send(link.Envelope{Kind: link.KindRebind, Group: dir, Account: c.account, Device: 1, Slot: 3, Gen: 1, Serial: bound.Serial})
	gw.send(link.Envelope{Kind: link.KindRebindDone, Group: dir, Term: next})
	defer link.Connect(d.r.Endpoint(), queue.endpoint)()
	queue.wait(link.KindHello, dir)
	queue.send(link.Envelope{Kind: link.KindHello, Group: qg, Term: 4})
	if e := queue.wait(link.KindAttach, qg); e.Serial <= bound.Serial || e.Slot != 3 {
		t.Errorf("attach %+v", e)
	}
	if e := queue.wait(link.KindDropQueue, qg); e.Account != c.account || e.Device != 2 {
		t.Errorf("drop %+v", e)
	}
	gw.send(link.Envelope{Kind: link.KindBind, Group: dir, Account: c.account, Device: 1, Slot: 4, Gen: 1, ID: 9, Payload: c.key[:]})
	if e := gw.wait(link.KindClose, dir); e.Slot != 3 || e.Reason != stanza.ReasonDisplaced {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
}

func checkReady(t *testing.T, d *daemon) {
	t.Helper()
	if ok, why := d.r.Ready(); !ok {
		t.Errorf("not ready: %s", why)
	}
	turns := d.r.Turned()
	if len(turns) != testShards || turns[1].Name != "dir/1" {
		t.Errorf("turns %v", turns)
	}
	families, err := d.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			found[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{"linecard_router_bindings": 1, "linecard_router_binds_total": 1, "linecard_router_messages_total": 1,
		"linecard_router_queries_total": 2, "linecard_router_pending_drops": 1} {
		if found[name] != want {
			t.Errorf("%s is %v, want %v", name, found[name], want)
		}
	}
}

func TestInviteOverLinks(t *testing.T) {
	d := startRouter(t, vfs.NewMem(), true, func(c *Config, _ *Deps) { c.Registration = RegistrationInvite })
	defer d.close()
	gw := newFakeDaemon(t, link.RoleGateway, 1, 1)
	defer link.Connect(gw.endpoint, d.r.Endpoint())()
	for n := range testShards {
		gw.wait(link.KindHello, stanza.DirGroup(n))
	}
	for range 10 {
		code, err := d.r.Invite(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if len(code) != 26 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Errorf("code %q", code)
		}
		g := stanza.DirGroup(stanza.HandleShard(code, testShards))
		gw.send(link.Envelope{Kind: link.KindRedeem, Group: g, Slot: 1, Gen: 1, Payload: redeemPayload(1, "ann", code)})
		if e := gw.wait(link.KindRedeemed, g); e.Reason != 0 {
			t.Errorf("redeemed: %v", e.Reason)
		}
	}
	if _, err := d.r.Invite(t.Context(), time.Millisecond); err == nil {
		t.Error("an invite that ends at once")
	}
}

func TestNotHosted(t *testing.T) {
	d := startRouter(t, vfs.NewMem(), true, func(_ *Config, deps *Deps) { deps.Groups = []int{2} })
	defer d.close()
	gw := newFakeDaemon(t, link.RoleGateway, 1, 1)
	defer link.Connect(gw.endpoint, d.r.Endpoint())()
	g := stanza.DirGroup(testShard)
	gw.send(link.Envelope{Kind: link.KindUnbind, Group: g, Account: 5, Device: 1})
	gw.send(link.Envelope{Kind: link.KindMessage, Group: g, Slot: 6, Gen: 2, ID: 7, Charge: 8})
	if e := gw.wait(link.KindNotLeader, g); e.Slot != 6 || e.Gen != 2 || e.ID != 7 || e.Charge != 8 {
		t.Errorf("%+v", e)
	}
	gw.wait(link.KindHello, stanza.DirGroup(2))
	// Codes are drawn until one belongs here.
	if code, err := d.r.Invite(t.Context(), time.Hour); err != nil || stanza.HandleShard(code, testShards) != 2 {
		t.Errorf("code %q, %v", code, err)
	}
}

// TestOtherCluster: data of another cluster stop the router, whether the facts are in the tables or only in the log.
func TestOtherCluster(t *testing.T) {
	disk := vfs.NewMem()
	d := startRouter(t, disk, true, nil)
	gw := newFakeDaemon(t, link.RoleGateway, 1, 1)
	disconnect := link.Connect(gw.endpoint, d.r.Endpoint())
	for n := range testShards { // the facts are committed before what comes after them
		g := stanza.DirGroup(n)
		gw.wait(link.KindHello, g)
		gw.send(link.Envelope{Kind: link.KindRedeem, Group: g, Slot: 1, Gen: 1, Payload: redeemPayload(1, "ann", "none")})
		gw.wait(link.KindRedeemed, g)
	}
	d.close()
	disconnect()
	host, err := shard.OpenHost(shard.HostConfig{Dir: "router", FS: disk, NodeID: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	r, err := New(DefaultConfig(), Deps{Node: 50, Shards: testShards, Cluster: "another", Host: host, Groups: []int{0, 1, 2, 3}})
	if err == nil {
		select {
		case err = <-host.Failed():
		case <-time.After(30 * time.Second):
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if closing := r.Run(ctx); closing != nil {
			t.Error(closing)
		}
	}
	if err == nil || !strings.Contains(err.Error(), `"test"`) {
		t.Errorf("data of another cluster: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	host, err := shard.OpenHost(shard.HostConfig{Dir: "router", FS: vfs.NewMem(), NodeID: "n1", Bootstrap: true})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	good := Deps{Node: 1, Shards: 4, Cluster: "test", Host: host}
	for name, change := range map[string]func(*Config, *Deps){
		"config":  func(c *Config, _ *Deps) { c.WindowIDs = 0 },
		"shards":  func(_ *Config, d *Deps) { d.Shards = 0 },
		"cluster": func(_ *Config, d *Deps) { d.Cluster = "" },
		"host":    func(_ *Config, d *Deps) { d.Host = nil },
		"group":   func(_ *Config, d *Deps) { d.Groups = []int{4} },
		"twice":   func(_ *Config, d *Deps) { d.Groups = []int{1, 1} },
	} {
		cfg, deps := DefaultConfig(), good
		change(&cfg, &deps)
		if _, err := New(cfg, deps); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
