package turnd

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/turn/v3"
	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/certfile"
	"linecard.example/internal/link"
	"linecard.example/internal/metrics"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

var (
	errNoRequest = errors.New("turnd: no request that wants a relay")
	errNoPort    = errors.New("turnd: no free port")
)

// Deps is what a turnd gets from its process.
type Deps struct {
	Node, Incarnation uint64 // of its links
	Shards            int
	Cluster           string
	Region            stanza.Region
	LinkCredit        int         // bytes on their way here from one peer for one group; 0: link.DefaultCredits
	Board             *link.Board // where the process keeps the roster; nil: it runs alone

	Lines      metrics.Budget        // of lines about what fails in the log, but for those for audit
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics
	Clock      func() time.Time      // nil: time.Now
	Alone      bool                  // the process does nothing else: New sees to a processor more than read packets (GOMAXPROCS)
}

// Server is the daemon. Safe for concurrent use.
type Server struct {
	cfg   Config
	deps  Deps
	log   *slog.Logger
	lines *metrics.LinesOf[Reason]
	count *counters

	cert         *certfile.Pair // nil: no TLS, no DTLS
	doors        *doors
	policy       *policy
	credentials  *credentials
	nonces       *nonces
	cookies      *nonces // of DTLS
	sources      *sources
	accounts     *accounts
	reservations *reservations
	total        *total
	transactions transactions
	start        time.Time

	pollers  []*poller      // of UDP listeners; none: packets go one by one
	fronts   []*front       // fixed once New has returned
	turnings []*turning     // the same
	loops    []func() error // what reads: Run starts each; an error but net.ErrClosed ends it
	closers  []func()       // what ends them
	pion     *turn.Server
	open     func(via carrier, at netip.AddrPort) (port, error) // openPort, but in tests without sockets

	endpoint *link.Endpoint

	draining atomic.Bool
	quit     chan struct{} // closed by close

	mu      sync.Mutex
	ended   bool                  // guarded by mu
	conns   map[net.Conn]struct{} // guarded by mu
	serving sync.WaitGroup        // connections
}

// New opens the listeners. Nothing is answered before Run. If New fails everything it opened is closed again.
func New(cfg Config, deps Deps) (*Server, error) {
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	s := &Server{cfg: cfg, deps: deps, log: deps.Logger, start: time.Now(), doors: newDoors(cfg), quit: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	s.lines = metrics.NewLinesOf(s.log, deps.Lines, reasonEnd-1, func(Reason) slog.Level { return slog.LevelWarn })
	s.transactions.start = rand.Uint32()
	s.credentials, s.nonces = newCredentials(cfg, deps.Clock), newNonces(nonceLife, deps.Clock)
	s.cookies = newNonces(cookieLife, deps.Clock)
	s.sources, s.accounts = newSources(cfg, s.now), newAccounts(cfg, s.now)
	s.reservations = newReservations(s.accounts)
	s.count = newCounters(deps.Registerer, s)
	var err error
	if s.policy, err = newPolicy(cfg); err != nil {
		return nil, err
	}
	s.endpoint, s.open = s.newEndpoint(), s.openPort
	if err = s.listen(); err != nil {
		s.close()
		return nil, err
	}
	s.total = newTotal(s.fronts)
	if deps.Registerer != nil {
		deps.Registerer.MustRegister(s.total)
	}
	return s, nil
}

func (s *Server) addFront(transport string, local net.Addr, proven bool) *front {
	f := newFront(s, len(s.fronts), local, proven)
	f.transport = transport
	if u, ok := local.(*net.UDPAddr); ok {
		s.policy.listening[uint16(u.Port)] = true
	}
	s.watch(&f.turning, transport+" "+local.String())
	s.fronts = append(s.fronts, f)
	return f
}

// now is the time that tables and limits have: nanoseconds that only grow.
func (s *Server) now() int64 { return int64(time.Since(s.start)) }

// SetSecrets replaces what time-limited credentials are verified with, the newest first; wire.MaxRelaySecrets are kept.
func (s *Server) SetSecrets(list []wire.RelaySecret) { s.credentials.set(list) }

// Endpoint is where routers are connected: they tell the secrets.
func (s *Server) Endpoint() *link.Endpoint { return s.endpoint }

// Addrs returns the addresses that clients use, of a transport: udp, tcp, tls or dtls.
func (s *Server) Addrs(transport string) []net.Addr {
	var list []net.Addr
	for _, f := range s.fronts {
		if f.transport == transport {
			list = append(list, f.local)
		}
	}
	return list
}

// Allocations returns how many there are.
func (s *Server) Allocations() int { return s.accounts.count() }

// Ready reports whether clients can be served, and if not, why.
func (s *Server) Ready() (ok bool, why string) {
	switch {
	case s.draining.Load():
		return false, "draining"
	case !s.credentials.ready():
		return false, "no relay secret yet"
	}
	return true, ""
}

// Run serves until ctx ends; then allocations have Config.Drain to end. It closes the listeners. If clients are not read any more it ends at once,
// with the error: what is started in its place reads them.
func (s *Server) Run(ctx context.Context) error {
	if err := s.openPion(); err != nil {
		s.close()
		return err
	}
	var reading sync.WaitGroup
	reads, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	for _, loop := range s.loops {
		reading.Go(func() {
			if err := loop(); err != nil && !errors.Is(err, net.ErrClosed) {
				fail(err)
			}
		})
	}
	if s.cert != nil {
		reading.Go(func() { s.cert.Watch(reads, certfile.Every) })
	}
	<-reads.Done()
	var failed error
	if ctx.Err() == nil {
		failed = context.Cause(reads)
	} else {
		s.drain()
	}
	s.close()
	reading.Wait()
	s.serving.Wait()
	err := errors.Join(failed, s.pion.Close())
	s.reservations.close()
	s.accounts.none(settleTime)
	return err
}

// drain waits until the allocations have ended, not longer than Config.Drain, and ends those that are left. New ones are refused meanwhile.
func (s *Server) drain() {
	s.draining.Store(true)
	if n := s.accounts.count(); n > 0 {
		s.log.Info("draining", "allocations", n, "at_most", s.cfg.Drain.D())
	}
	s.reservations.close() // nobody can claim them any more
	if s.accounts.none(s.cfg.Drain.D()) {
		return
	}
	for _, f := range s.fronts {
		for _, a := range f.table.all() {
			a.end(Draining)
		}
	}
}

// settleTime bounds how long it is waited for pion to let go of all allocations.
const settleTime = 5 * time.Second

// close ends what reads: listeners and connections. It is called once.
func (s *Server) close() {
	close(s.quit)
	for _, c := range s.closers {
		c()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.conns {
		_ = c.Close()
	}
}
