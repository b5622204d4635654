package mediad

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/certfile"
	"linecard.example/internal/link"
	"linecard.example/internal/metrics"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// Deps is what a mediad gets from its process.
type Deps struct {
	Node, Incarnation uint64 // of its links
	Shards            int
	Cluster           string
	Region            stanza.Region
	LinkCredit        int         // bytes on their way here from one peer for one group; 0: link.DefaultCredits
	Board             *link.Board // where the process keeps the roster; nil: it runs alone

	Dir        string                // the daemon's own directory; New makes it
	Logger     *slog.Logger          // nil: discards
	Lines      metrics.Budget        // of lines about clients in the log
	Registerer prometheus.Registerer // nil: no metrics
	Clock      func() time.Time      // nil: time.Now
	Listener   net.Listener          // nil: New listens on Config.Listen. Its connections must be *net.TCPConn for sendfile
}

// Server is the daemon. Safe for concurrent use.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	lines   *metrics.LinesOf[Reason]
	count   *counters
	ln      net.Listener
	cert    *certfile.Pair // nil: plain HTTP
	depot   *depot
	buffers *buffers
	tally   *tally
	work    work

	keyring  *keyring
	endpoint *link.Endpoint

	keys     atomic.Pointer[[]wire.GrantPublic] // replaced, never changed
	draining atomic.Bool
	patience time.Duration   // evictWait, but in tests
	tlsEvery time.Duration   // the same
	life     context.Context // of commits, which outlive the requests that they were begun by
	kill     context.CancelFunc
}

// New opens the store and the listener. Nothing is answered before Run. If New fails everything it opened is closed again.
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
	s := &Server{
		cfg: cfg, deps: deps, log: deps.Logger, count: newCounters(deps.Registerer),
		buffers: newBuffers(cfg.Buffers.Int()), tally: newTally(cfg.Requests, cfg.AccountRequests), work: work{live: map[*request]struct{}{}},
		patience: evictWait, tlsEvery: certfile.Every,
	}
	s.lines = metrics.NewLinesOf(s.log, deps.Lines, reasonEnd-1, func(Reason) slog.Level { return slog.LevelDebug })
	s.life, s.kill = context.WithCancel(context.Background())
	var err error
	if cfg.TLSCert != "" {
		told := certfile.Options{Logger: s.log, Expiry: s.count.certificate, Failures: s.count.reloads}
		if s.cert, err = certfile.Open(cfg.TLSCert, cfg.TLSKey, told); err != nil {
			return nil, err
		}
	}
	if s.depot, err = s.openDepot(); err != nil {
		return nil, err
	}
	s.keyring = newKeyring(deps.Dir, s.SetKeys, s.log)
	info := link.Info{Role: link.RoleMedia, Node: deps.Node, Incarnation: deps.Incarnation, Shards: deps.Shards, Cluster: deps.Cluster, Region: deps.Region}
	s.endpoint = link.NewEndpoint(info, link.NewWord(link.KindGrantKeys, s.keyring.hear, s.log), link.Options{Credits: deps.LinkCredit, Board: deps.Board, Logger: s.log, Registerer: deps.Registerer})
	if s.ln = deps.Listener; s.ln == nil {
		if s.ln, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, errors.Join(fmt.Errorf("media listener: %w", err), s.closeDepot())
		}
	}
	return s, nil
}

// openDepot opens the store that is configured.
func (s *Server) openDepot() (*depot, error) {
	var store blobs
	if s.cfg.Store == StoreS3 {
		b, err := openBucket(s.cfg.S3)
		if err != nil {
			return nil, err
		}
		store = b
	}
	return openDepot(depotOptions{
		dir: s.deps.Dir, bucket: store, log: s.log, now: s.deps.Clock, reg: s.deps.Registerer,
		limits:    limits{Quota: int64(s.cfg.Quota), AccountUploads: s.cfg.AccountUploads},
		freeSpace: int64(s.cfg.FreeSpace), retention: s.cfg.Retention.D(), uploadLife: s.cfg.UploadLife.D(), sweep: s.cfg.Sweep.D(),
	})
}

// Endpoint is where routers are connected: they tell what grants are verified with.
func (s *Server) Endpoint() *link.Endpoint { return s.endpoint }

// Addr returns where the listener is.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Trim lets go of buffers that nobody uses. It is called when little happens.
func (s *Server) Trim(context.Context) { s.buffers.trim() }

// Ready reports whether uploads and downloads can be served, and if not, why.
func (s *Server) Ready() (ok bool, why string) {
	keys := s.keys.Load()
	switch {
	case s.draining.Load():
		return false, "draining"
	case keys == nil || len(*keys) == 0:
		return false, "no grant keys yet"
	case !s.depot.ledger.isReady():
		return false, "what accounts have is still being read"
	}
	return true, ""
}

// cutGrace is how long requests that were cut have to answer, and commits under way to end.
const cutGrace = 5 * time.Second

// Run serves until ctx ends; then running requests have Config.Drain to end, and uploads are cut where they are, to be resumed. It
// closes the listener and the store.
func (s *Server) Run(ctx context.Context) error {
	inner, stop := context.WithCancel(context.Background())
	var others sync.WaitGroup
	others.Go(func() { s.depot.run(inner) })
	others.Go(func() { s.keyring.run(inner) })
	if s.cert != nil {
		others.Go(func() { s.cert.Watch(inner, s.tlsEvery) })
	}
	web := s.web()
	failed := make(chan error, 1)
	go func() { failed <- s.listen(web) }()
	var err error
	select {
	case <-ctx.Done():
		s.drain(web)
	case err = <-failed: // the listener is gone
		s.draining.Store(true)
		s.work.cut(Draining)
		_ = web.Close()
	}
	stop()
	s.kill()
	others.Wait()
	return errors.Join(err, s.closeDepot())
}

// web is the HTTP server. The timeouts here are for what no handler sees, and until a handler sets its own.
func (s *Server) web() *http.Server {
	stall := s.cfg.Stall.D()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	window := s.cfg.HTTP2Window.Int()
	return &http.Server{
		Handler: s, DisableGeneralOptionsHandler: true, Protocols: &protocols, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: s.cfg.HeaderTimeout.D(), ReadTimeout: s.cfg.HeaderTimeout.D() + stall, WriteTimeout: stall, IdleTimeout: s.cfg.IdleTimeout.D(),
		ConnState: newDoors(s.cfg.Connections, s.cfg.SourceConnections, s.count).state,
		ErrorLog:  slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what strangers do wrong, as fast as they can
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: s.cfg.AccountRequests, MaxReadFrameSize: 16 << 10,
			MaxReceiveBufferPerConnection: window, MaxReceiveBufferPerStream: max(window/2, 64<<10),
			SendPingTimeout: s.cfg.IdleTimeout.D(), PingTimeout: stall, WriteByteTimeout: stall,
		},
	}
}

// listen answers until web is shut down, which is no error.
func (s *Server) listen(web *http.Server) (err error) {
	if s.cert != nil {
		web.TLSConfig = s.cert.Config()
		err = web.ServeTLS(s.ln, "", "")
	} else {
		err = web.Serve(s.ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("media listener: %w", err)
}

// drain ends the server in order.
func (s *Server) drain(web *http.Server) {
	s.draining.Store(true)
	grace, cancel := context.WithTimeout(context.Background(), s.cfg.Drain.D())
	defer cancel()
	if web.Shutdown(grace) == nil {
		return
	}
	s.work.cut(Draining)
	last, cancel := context.WithTimeout(context.Background(), cutGrace)
	defer cancel()
	if web.Shutdown(last) != nil {
		_ = web.Close() // downloads that are still going on
	}
}

// closeDepot waits for what still has an upload open.
func (s *Server) closeDepot() error {
	end, cancel := context.WithTimeout(context.Background(), cutGrace)
	defer cancel()
	return s.depot.close(end)
}
