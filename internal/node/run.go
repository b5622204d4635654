package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/thejerf/suture/v4"

	"linecard.example/gateway"
	"linecard.example/internal/admin"
	"linecard.example/internal/link"
	"linecard.example/internal/shard"
)

// startLimit is how long a process may take to become ready before Run says that it is slow; it goes on all the same.
const startLimit = 30 * time.Second

// Run runs the node until ctx ends or a daemon fails. Then the daemons end in the order of the message path, gateway first, so
// that what a gateway still holds is answered; databases are closed last. ready is called once, when the process is ready to serve.
func (n *Node) Run(ctx context.Context, ready func()) error {
	defer n.lock.close()
	services, stopServices := context.WithCancel(context.Background())
	defer stopServices()
	raftClosed := n.serveRaft()
	daemons := n.startDaemons()
	closed := n.startServices(services)
	for _, d := range n.disks {
		go d.Run(services)
	}
	go n.waitReady(services, ready)

	var failed, lost error // a daemon's, which stop reports, too; a database's, or the node id's
	select {
	case <-ctx.Done():
	case failed = <-daemons.failed:
	case lost = <-n.hostFailure(services):
	case lost = <-n.twinFound():
	}
	n.stopping.Store(true)
	n.log.Info("stopping", "cause", cause(ctx, errors.Join(failed, lost)))
	n.handOver(failed == nil && lost == nil)
	err := errors.Join(lost, daemons.stop())
	stopServices()
	<-closed
	limit := closeLimit
	if lost != nil && !errors.Is(lost, shard.ErrDuplicate) {
		limit = closeLimitFailed
	}
	err = errors.Join(err, n.closeHosts(limit))
	if n.network != nil {
		n.network.Close()
		<-raftClosed
	}
	return err
}

// handOverLimit bounds what a planned end waits for others to lead.
const handOverLimit = 2 * time.Second

// handOver gives the leaderships of a member to others before its end, when that is in order: nobody waits for an election then.
func (n *Node) handOver(inOrder bool) {
	if n.network == nil || !inOrder {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverLimit)
	defer cancel()
	for _, h := range n.hosts {
		if err := h.HandOver(ctx); err != nil {
			n.log.Warn("not every leadership was handed over", "err", err)
		}
	}
}

// serveRaft accepts connections of other replicas until the network is closed, which is after the databases. The channel is closed then.
func (n *Node) serveRaft() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if n.network == nil {
			return
		}
		if err := n.network.Serve(context.Background(), n.raftLn); err != nil {
			n.log.Error("no replica can connect here any more", "err", err)
		}
	}()
	return done
}

func cause(ctx context.Context, err error) string {
	if err != nil {
		return err.Error()
	}
	return context.Cause(ctx).Error()
}

// daemonSet is the running daemons, in the order in which they end.
type daemonSet struct {
	cancels []context.CancelFunc
	ends    []chan error
	failed  chan error
}

func (n *Node) startDaemons() *daemonSet {
	set := &daemonSet{failed: make(chan error, 6)}
	start := func(role Role, run func(context.Context) error) {
		ctx, cancel := context.WithCancel(context.Background())
		end := make(chan error, 1)
		set.cancels, set.ends = append(set.cancels, cancel), append(set.ends, end)
		go func() {
			err := run(ctx)
			if err == nil && ctx.Err() == nil {
				err = errors.New("ended by itself")
			}
			if err != nil {
				err = named(role, err)
				set.failed <- err
			}
			if errors.Is(err, gateway.ErrHandedOver) {
				err = nil // an end in order, though nobody here asked for it
			}
			end <- err
		}()
	}
	if n.gateway != nil {
		start(Gateway, n.gateway.Run)
	}
	if n.border != nil {
		start(Border, n.border.Run)
	}
	if n.media != nil {
		start(Media, n.media.Run)
	}
	if n.relay != nil {
		start(Relay, n.relay.Run)
	}
	if n.router != nil {
		start(Router, n.router.Run)
	}
	if n.offline != nil {
		start(Offline, n.offline.Run)
	}
	return set
}

// named says whose an error is; most say it themselves.
func named(role Role, err error) error {
	if err == nil || strings.HasPrefix(err.Error(), string(role)+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", role, err)
}

// stop ends the daemons one after the other and returns the errors of those that did not end well.
func (d *daemonSet) stop() error {
	var errs []error
	for i, cancel := range d.cancels {
		cancel()
		errs = append(errs, <-d.ends[i])
	}
	return errors.Join(errs...)
}

// twinFound delivers that another process is at work under this node's id; nil if the process is alone.
func (n *Node) twinFound() <-chan error {
	if n.network == nil {
		return nil
	}
	return n.network.Failed()
}

// hostFailure returns a channel with the first failure of a database; such a process must not go on.
func (n *Node) hostFailure(ctx context.Context) <-chan error {
	failed := make(chan error, len(n.hosts))
	for _, h := range n.hosts {
		go func() {
			select {
			case err := <-h.Failed():
				failed <- err
			case <-ctx.Done():
			}
		}()
	}
	return failed
}

// startServices runs what may be restarted by itself: the admin listener, the link listener, the links. The returned channel is
// closed when all of it has ended.
func (n *Node) startServices(ctx context.Context) <-chan struct{} {
	sup := suture.New("node", suture.Spec{
		EventHook: func(e suture.Event) { n.log.Warn("service", "event", e.String()) },
		Timeout:   5 * time.Second,
	})
	adm := admin.New(n.reg, n.clock, n.unhealthy, n.unready)
	adm.Warn(n.warnings)
	if n.router != nil {
		adm.Handle("/invite", n.invite)
	}
	if len(n.hosts) > 0 {
		copies := n.checkpoints()
		adm.Handle("/backup", copies.make)
		adm.Handle("/backup/done", copies.done)
		context.AfterFunc(ctx, copies.end)
	}
	if n.adminLn != nil {
		sup.Add(&listenService{ln: n.adminLn, serve: adm.Serve})
	} else {
		sup.Add(lateAdmin{n, adm.Serve})
	}
	if n.together() {
		sup.Add(connectService{n})
	} else {
		n.addLinks(sup)
	}
	n.addRegions(sup)
	if !n.together() {
		sup.Add(tidyService{n.trimmer(), n.log.With("daemon", string(n.roles[0]))})
	}
	done := make(chan struct{})
	failed := sup.ServeBackground(ctx)
	go func() {
		if err := <-failed; err != nil && ctx.Err() == nil {
			n.log.Error("services ended by themselves", "err", err)
		}
		close(done)
	}()
	return done
}

func (n *Node) addLinks(sup *suture.Supervisor) {
	if n.linkLn != nil {
		sup.Add(&listenService{ln: n.linkLn, serve: link.NewServer(n.tls, n.Endpoints()...).Serve})
	}
	if n.offline != nil {
		sup.Add(connectService{n})
	}
	if n.cluster != nil {
		n.addCluster(sup)
		return
	}
	dial := func(addrs []string, role link.Role) {
		for _, addr := range addrs {
			for _, e := range n.Endpoints() {
				sup.Add(dialService{n, e, addr, role})
			}
		}
	}
	hears := len(n.hearers()) > 0
	if n.gateway != nil || n.border != nil || hears {
		dial(n.cfg.Links.Routers, link.RoleRouter)
	}
	if !hears {
		dial(n.cfg.Links.Offlines, link.RoleOffline)
	}
}

// addCluster adds what a process does that goes by the roster.
func (n *Node) addCluster(sup *suture.Supervisor) {
	c := n.cluster
	sup.Add(routerDials{c.enquirer, n.tls})
	sup.Add(rosterDials{n})
	switch {
	case n.router != nil:
		c.groups = n.router
	case n.offline != nil:
		c.groups = n.offline
	}
	sup.Add(c)
	if c.host != nil {
		sup.Add(removalSearch{c})
		sup.Add(announcer{c, n.cfg.member(n.id.id, c.role)})
	}
}

// listenService serves on a listener. After a failure it listens again on the same address.
type listenService struct {
	ln    net.Listener
	serve func(context.Context, net.Listener) error
}

func (s *listenService) Serve(ctx context.Context) error {
	err := s.serve(ctx, s.ln)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	next, errListen := net.Listen(s.ln.Addr().Network(), s.ln.Addr().String())
	if errListen == nil {
		s.ln = next
	}
	return errors.Join(err, errListen)
}

// connectService holds the links between the daemons of this process.
type connectService struct{ n *Node }

func (s connectService) Serve(ctx context.Context) error {
	n := s.n
	var stops []func()
	connect := func(a, b *link.Endpoint) { stops = append(stops, link.Connect(a, b)) }
	if n.gateway != nil {
		connect(n.gateway.Endpoint(), n.router.Endpoint())
		connect(n.gateway.Endpoint(), n.offline.Endpoint())
		connect(n.router.Endpoint(), n.offline.Endpoint())
	}
	if n.border != nil {
		connect(n.border.Within(), n.router.Endpoint())
		connect(n.border.Within(), n.offline.Endpoint())
	}
	for _, e := range n.hearers() {
		connect(e, n.router.Endpoint())
	}
	connect(n.offline.Endpoint(), n.offline.Endpoint()) // receipts between its own shards
	<-ctx.Done()
	for _, stop := range stops {
		stop()
	}
	return ctx.Err()
}

// dialService keeps one stream to a peer process up.
type dialService struct {
	n    *Node
	from *link.Endpoint
	addr string
	role link.Role
}

func (s dialService) Serve(ctx context.Context) error {
	s.from.Dial(ctx, s.addr, s.role, s.n.tls)
	return ctx.Err()
}

// waitReady calls ready when the process can serve.
func (n *Node) waitReady(ctx context.Context, ready func()) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	start, warned := n.clock(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := n.clock()
		faults := n.unready(now)
		if len(faults) == 0 && n.AdminAddr() != nil {
			if ready != nil {
				ready()
			}
			return
		}
		if !warned && now.Sub(start) > startLimit && len(faults) > 0 {
			warned = true
			n.log.Warn("not ready yet", "first", faults[0].Name, "why", faults[0].Why, "faults", len(faults))
		}
	}
}

// invite answers the admin command that makes an invite code.
func (n *Node) invite(ctx context.Context, r *http.Request) (any, error) {
	ttl, err := time.ParseDuration(r.URL.Query().Get("ttl"))
	if err != nil || ttl < time.Minute || ttl > 365*24*time.Hour {
		return nil, fmt.Errorf("ttl %q: want 1m to 8760h", r.URL.Query().Get("ttl"))
	}
	code, err := n.router.Invite(ctx, ttl)
	if err != nil {
		return nil, err
	}
	return map[string]string{"code": code}, nil
}
