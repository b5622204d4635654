package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flynn/noise"
	"github.com/panjf2000/gnet/v2"
	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/link"
	reasons "linecard.example/internal/metrics"
	"linecard.example/internal/stanza"
)

// Deps is what a gateway needs from its process.
type Deps struct {
	Node        uint64 // durable id of the node
	Incarnation uint64 // random per start
	Shards      int    // of the cluster
	Region      stanza.Region
	Cluster     string
	Logger      *slog.Logger          // nil: nothing is logged
	Registerer  prometheus.Registerer // nil: a registry of its own
	Clock       func() time.Time      // nil: time.Now
	Static      noise.DHKey           // what clients are shown, retained
	Cert        []byte                // certificate of Static, retained
	Lines       reasons.Budget        // of lines about clients in the log
	LinkCredit  int                   // bytes on their way here from one peer for one group; 0: link.DefaultCredits
	Board       *link.Board           // where the process keeps the roster; nil: addresses are configured

	// Listen is set for a worker under a supervisor, which holds the port: the addresses of gnet to share with other workers. Otherwise
	// Run resolves Config.Listen, checks that the port is free and shares it with nobody.
	Listen []string

	HandoverSocket string    // where a newer process asks for the sessions; "": nowhere
	Takeover       *Takeover // the running gateway to replace; nil: none
}

// Turn is when a loop last did something.
type Turn struct {
	Name string
	At   time.Time
}

// Gateway is the daemon: New, then Run once. Everything else is safe for concurrent use.
type Gateway struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	clock  func() time.Time
	start  time.Time
	shards int

	// Resolved from the configuration; read only.
	maxSessions    int
	windowUnits    int // twice the byte window, in chargeUnit
	outboundCap    int
	maxMessage     int
	partialBytes   int
	partialTicks   uint64
	handshakeTicks uint64
	ackSeconds     uint8
	answerSeconds  uint8
	balancers      []netip.Prefix // from where a PROXY header comes
	mediaURL       []byte         // what clients are told; nil: there is no mediad
	relayURLs      []byte         // the same of relays, as a list; nil: there is none

	metrics  *metrics
	lines    *reasons.Lines
	endpoint *link.Endpoint
	loops    []*loop
	sources  struct{ handshakes, registrations, resumes *sourceTable }

	// Any goroutine.
	draining atomic.Bool
	leaving  atomic.Bool  // siblings go on
	giving   atomic.Bool  // sessions are being handed over, or all have been
	taking   atomic.Bool  // another process's sessions are still to come
	settled  atomic.Bool  // everything is open, the hand-over socket too
	open     atomic.Int64 // connections, but for refused ones
	attached atomic.Int32 // loops that gnet has shown
	addr     atomic.Pointer[net.TCPAddr]
	ready    chan struct{} // closed when listening
	failed   chan error
	engine   gnet.Engine // set before ready is closed

	doors      []int         // the engine's listening sockets; set before anybody can ask for the sessions
	heirs      uint16        // new processes that the sessions were offered to; the goroutine that hands over
	handedOver chan struct{} // closed when another process has the sessions
	departed   *net.UnixConn // to that process; set before handedOver is closed

	attachMu sync.Mutex

	// Under routeMu for writing; streams and ticket keys are read without.
	routeMu sync.Mutex
	tickets atomic.Pointer[ticketKeys] // nil: none known yet
	dirs    []route
	queues  []route
}

// New returns a gateway for a valid configuration. It listens to nothing yet; its endpoint may be connected at once.
func New(cfg Config, deps Deps) (*Gateway, error) {
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if deps.Shards < 1 {
		return nil, errors.New("gateway: no shards")
	}
	g := &Gateway{
		cfg: cfg, deps: deps, log: deps.Logger, clock: deps.Clock, shards: deps.Shards,
		ready: make(chan struct{}), failed: make(chan error, 1), handedOver: make(chan struct{}),
		dirs: make([]route, deps.Shards), queues: make([]route, deps.Shards),
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.clock == nil {
		g.clock = time.Now
	}
	if g.deps.Registerer == nil {
		g.deps.Registerer = prometheus.NewRegistry()
	}
	g.lines = reasons.NewLines(g.log, deps.Lines)
	g.start = g.clock()
	g.resolve()
	loops := cfg.loops(runtime.NumCPU())
	g.metrics = newMetrics(g.deps.Registerer, loops)
	for i := range loops {
		l, err := newLoop(g, i)
		if err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
		g.loops = append(g.loops, l)
	}
	g.exportBacklog(g.deps.Registerer)
	g.exportSteps(g.deps.Registerer)
	info := link.Info{Role: link.RoleGateway, Node: deps.Node, Incarnation: deps.Incarnation, Shards: deps.Shards, Cluster: deps.Cluster, Region: deps.Region}
	g.endpoint = link.NewEndpoint(info, g, link.Options{Turns: true, Credits: deps.LinkCredit, Board: deps.Board, Logger: g.log, Registerer: g.deps.Registerer})
	return g, nil
}

// resolve turns the configuration into the units of the loops.
func (g *Gateway) resolve() {
	cfg := &g.cfg
	g.maxSessions = sessionCap(cfg.MaxSessions)
	g.windowUnits = 2 * cfg.WindowBytes.Int() / chargeUnit
	g.outboundCap, g.maxMessage, g.partialBytes = cfg.OutboundCap.Int(), cfg.MaxMessage.Int(), cfg.PartialBytes.Int()
	g.partialTicks = uint64(cfg.PartialTimeout.D() / tickLength)
	g.handshakeTicks = uint64(cfg.HandshakeTimeout.D() / tickLength)
	g.ackSeconds = uint8(cfg.AckTimeout.D() / time.Second)
	g.answerSeconds = uint8(cfg.AnswerTimeout.D() / time.Second)
	g.balancers, _ = parseSources(cfg.ProxySources) // validated
	g.mediaURL = []byte(cfg.MediaURL)
	g.relayURLs = stanza.AppendURLs(nil, cfg.RelayURLs)
	g.sources.handshakes = newSourceTable(cfg.SourceEntries, cfg.HandshakeRate, cfg.HandshakeBurst)
	g.sources.resumes = newSourceTable(cfg.SourceEntries, cfg.ResumeRate, cfg.ResumeBurst)
	g.sources.registrations = newSourceTable(cfg.SourceEntries, cfg.RegisterRate, cfg.RegisterBurst)
}

// Endpoint is where routers and offlines are connected.
func (g *Gateway) Endpoint() *link.Endpoint { return g.endpoint }

// Addr is where clients connect, nil before Run listens. With an empty host it is the IPv4 side.
func (g *Gateway) Addr() net.Addr {
	if a := g.addr.Load(); a != nil {
		return a
	}
	return nil
}

// Turned returns when each loop last turned; loops turn ten times a second.
func (g *Gateway) Turned() []Turn {
	turns := make([]Turn, len(g.loops))
	for i, l := range g.loops {
		turns[i] = Turn{Name: fmt.Sprintf("loop/%d", i), At: time.Unix(0, l.turned.Load())}
	}
	return turns
}

// whyTaking is why a process is not ready to which sessions come.
const whyTaking = "taking over sessions"

// Ready reports whether clients can be served, and if not, why.
func (g *Gateway) Ready() (ok bool, why string) {
	select {
	case <-g.ready:
	default:
		return false, "not listening"
	}
	if g.draining.Load() {
		return false, "draining"
	}
	if g.taking.Load() {
		return false, whyTaking
	}
	if !g.settled.Load() {
		return false, "not listening"
	}
	if group, ok := g.leaderless(); ok {
		return false, "no leader known for " + group.String()
	}
	return true, ""
}

// Run serves until ctx ends, then drains and returns nil. It returns ErrHandedOver when another process has the sessions. It returns an
// error when it cannot listen, and when the engine stops by itself: gnet does that on an accept error, and the sessions are lost then.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.endHandover()
	if err := g.prepareTakeover(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	addrs, release, err := g.places()
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	switch want := len(g.loops) + runtime.NumCPU(); {
	case !g.cfg.SetProcs:
	case g.cfg.crowded:
		runtime.GOMAXPROCS(1)
	case runtime.GOMAXPROCS(0) < want:
		runtime.GOMAXPROCS(want)
	}
	ev := &events{g: g}
	ended := make(chan error, 1)
	go func() {
		err := gnet.Rotate(ev, addrs, gnet.WithNumEventLoop(len(g.loops)), gnet.WithReusePort(true), gnet.WithReuseAddr(true),
			gnet.WithReadBufferCap(64<<10), gnet.WithTicker(true), gnet.WithLogger(engineLog{g.log}))
		ev.ended()
		ended <- err
	}()
	err = g.serve(ctx, ended, release)
	if ev.engine.Validate() != nil {
		return err // ended already, or never begun
	}
	return errors.Join(err, stopEngine(ev.engine, ended))
}

// serve waits for the listeners, then for the end.
func (g *Gateway) serve(ctx context.Context, ended chan error, release func()) error {
	defer release()
	select {
	case <-g.ready:
		release() // the engine's own sockets have the port now
		if g.deps.HandoverSocket != "" {
			g.doors = g.listeners() // while there are few sockets to look at
		}
		g.log.Info("listening", "addr", g.Addr().String(), "loops", len(g.loops), "max_sessions", g.maxSessions)
	case err := <-ended:
		return g.engineEnded(ended, err)
	case err := <-g.failed:
		return fmt.Errorf("gateway: %w", err)
	}
	return g.serveOn(ctx, ended)
}

// serveOn is serve once the gateway listens.
func (g *Gateway) serveOn(ctx context.Context, ended chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	taken := make(chan error, 1)
	if g.taking.Load() {
		go func() { taken <- g.take(g.deps.Takeover) }()
	} else {
		taken <- nil
	}
	for {
		select {
		case <-ctx.Done():
			if g.taking.Load() {
				g.Leave() // what has come finds the old process again
				_ = g.deps.Takeover.Close()
				if err := <-taken; err != nil { // from here on nobody comes behind those that drain
					g.log.Info("taking sessions over was broken off", "err", err)
				}
			}
			g.shutdown()
			return nil
		case err := <-taken:
			if err != nil {
				g.Leave() // what has come finds the old process again
				g.shutdown()
				return err
			}
			g.openHandover(ctx)
			g.taking.Store(false)
			g.settled.Store(true)
		case <-g.handedOver:
			g.shutdown()
			return ErrHandedOver
		case err := <-ended:
			return g.engineEnded(ended, err)
		case err := <-g.failed:
			return fmt.Errorf("gateway: %w", err)
		}
	}
}

func (g *Gateway) engineEnded(ended chan error, err error) error {
	ended <- err // for whoever waits for the end
	if err == nil {
		err = errors.New("its log has the reason")
	}
	return fmt.Errorf("gateway: the engine ended by itself: %w", err)
}

// stopLimit is how long gnet may take to close its connections and loops.
const stopLimit = 10 * time.Second

// stopEngine stops gnet and waits until its loops have ended. Stop itself looks for the end only twice a second.
func stopEngine(engine gnet.Engine, ended chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = engine.Stop(ctx)
	}()
	defer func() {
		cancel()
		<-stopped
	}()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("gateway: stopping the engine: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("gateway: the engine did not stop within %v", stopLimit)
	}
}

// listening is called once, when all loops run.
func (g *Gateway) listening() { close(g.ready) }

// fail ends Run with an error.
func (g *Gateway) fail(err error) {
	select {
	case g.failed <- err:
	default:
	}
}

// attach returns the state of a gnet loop, and gives the loop one when it is seen for the first time.
func (g *Gateway) attach(el gnet.EventLoop) (*loop, error) {
	for _, l := range g.loops[:g.attached.Load()] {
		if x := l.el.Load(); x != nil && *x == executor(el) {
			return l, nil
		}
	}
	g.attachMu.Lock()
	defer g.attachMu.Unlock()
	n := int(g.attached.Load())
	for _, l := range g.loops[:n] {
		if *l.el.Load() == executor(el) {
			return l, nil
		}
	}
	if n == len(g.loops) {
		return nil, errors.New("gateway: more event loops than asked for")
	}
	x := executor(el)
	g.loops[n].el.Store(&x)
	g.attached.Add(1)
	return g.loops[n], nil
}

// tickNow is the present in ticks, for what loops share.
func (g *Gateway) tickNow() uint64 { return uint64(max(g.clock().Sub(g.start), 0) / tickLength) }
