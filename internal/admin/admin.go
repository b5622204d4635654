package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxRequest bounds the body of a request in bytes.
const maxRequest = 64 << 10

// Fault is one reason why a process is not healthy or not ready.
type Fault struct {
	Name string `json:"name"` // what is wrong: a loop, a group, a link
	Why  string `json:"why"`
}

// Check returns what is wrong now; an empty list means all is well. It is called for every request, on any goroutine.
type Check func(now time.Time) []Fault

// Server answers the admin endpoints of one process.
type Server struct {
	mux   *http.ServeMux
	clock func() time.Time
	warn  Check
	note  func() map[string]any
}

// New returns a server that shows the metrics of reg and the results of the two checks.
func New(reg prometheus.Gatherer, clock func() time.Time, health, ready Check) *Server {
	own, _ := reg.(prometheus.Registerer) // where the page counts its own errors
	s := &Server{mux: http.NewServeMux(), clock: clock}
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: own}))
	s.mux.HandleFunc("GET /healthz", s.check(health))
	s.mux.HandleFunc("GET /readyz", s.check(ready))
	s.mux.HandleFunc("/debug/pprof/", pprof.Index)
	s.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return s
}

// Warn adds what an operator should see to though the process serves on: the checks' pages show it without failing for it. Call it
// before Serve.
func (s *Server) Warn(c Check) { s.warn = c }

// Note adds facts to the checks' pages, by name. Call it before Serve.
func (s *Server) Note(facts func() map[string]any) { s.note = facts }

// Page adds a page that is read with GET; pattern is http.ServeMux's, without the method. Call it before Serve.
func (s *Server) Page(pattern string, h http.Handler) { s.mux.Handle("GET "+pattern, h) }

// Handle adds a command: a POST whose JSON answer do returns. An error becomes status 400 with its text.
func (s *Server) Handle(path string, do func(ctx context.Context, r *http.Request) (any, error)) {
	s.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		answer, err := do(r.Context(), r)
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, answer)
	})
}

// Serve answers requests on ln until ctx ends; then it lets running ones finish for a second. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: s.mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, // a CPU profile takes 30 s and more
	}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(end) != nil {
			_ = srv.Close() // a request outlived the grace: its connection goes
		}
	})
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin listener: %w", err)
	}
	return nil
}

func (s *Server) check(c Check) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		status, page := http.StatusOK, map[string]any{}
		if s.note != nil {
			page = s.note()
		}
		page["ok"] = true
		if faults := c(s.clock()); len(faults) > 0 {
			status, page["ok"], page["faults"] = http.StatusServiceUnavailable, false, faults
		}
		if s.warn != nil {
			if warnings := s.warn(s.clock()); len(warnings) > 0 {
				page["warnings"] = warnings
			}
		}
		writeJSON(w, status, page)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a write error is the peer's: nobody is left to tell
}
