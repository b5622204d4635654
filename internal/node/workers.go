package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/flynn/noise"
	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/gateway"
	"linecard.example/internal/admin"
	"linecard.example/internal/config"
	"linecard.example/internal/metrics"
)

// Supervised is a gateway of several worker processes: NewSupervised, then Run once.
type Supervised struct {
	path    string // of the configuration file
	cfg     Config
	log     *slog.Logger
	reg     *prometheus.Registry
	crew    *gateway.Supervisor
	adminLn net.Listener
	lock    dirLock
}

// NewSupervised reads a gateway's configuration for more than one worker and opens what the supervisor holds: the port, the admin
// listener, the node's id. It starts no process. The log, and what workers write, goes to w.
func NewSupervised(path string, w io.Writer) (*Supervised, error) {
	text, cfg, err := readGateway(path)
	if err != nil {
		return nil, err
	}
	tuneRuntime([]Role{Gateway}, cfg.Admin.HeapProfile)
	out := cfg.patiently(w)
	s := &Supervised{path: path, cfg: cfg, log: cfg.loggerTo(out), reg: metrics.NewRegistry()}
	if err := s.settle(); err != nil {
		s.lock.close()
		return nil, err
	}
	if s.adminLn, err = net.Listen("tcp", cfg.Admin.Listen); err != nil {
		s.lock.close()
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	exe, err := os.Executable()
	if err == nil {
		exe = startedAs(os.Args[0], exe)
		s.crew, err = gateway.NewSupervisor(gateway.Crew{
			Workers: cfg.Gateway.WorkerCount(), Listen: cfg.Gateway.Listen, Dir: cfg.Data, Config: text, Drain: cfg.Gateway.DrainTimeout.D(),
			Look:    cfg.Admin.TurnLimit.D(),
			Command: s.command(exe), Said: s.said(out), Logger: s.log.With("daemon", "supervisor"), Registerer: s.reg,
		})
	}
	if err != nil {
		s.adminLn.Close()
		s.lock.close()
		return nil, err
	}
	return s, nil
}

// readGateway returns the text of a gateway's configuration file and what it says.
func readGateway(path string) ([]byte, Config, error) {
	text, err := config.Read(path)
	if err != nil {
		return nil, Config{}, err
	}
	cfg := DefaultConfig()
	if err := config.Decode(text, &cfg); err != nil {
		return nil, cfg, fmt.Errorf("configuration %s: %w", path, err)
	}
	return text, cfg, cfg.Validate(Gateway)
}

// settle makes the data directory, and looks at the keys: workers that cannot start would be restarted for ever.
func (s *Supervised) settle() error {
	if err := os.MkdirAll(s.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := s.lock.lock(s.cfg.Data); err != nil {
		return err
	}
	id, err := readIdentity(s.cfg.Data)
	if err != nil {
		return err
	}
	if _, _, err := s.cfg.gatewayKeys(s.cfg.gatewayName(), time.Now()); err != nil {
		return named(Gateway, err)
	}
	if _, err := linkTLS(s.cfg.keyDir(), s.cfg.gatewayName(), time.Now()); err != nil {
		return err
	}
	return id.settle()
}

func (c Config) gatewayName() string {
	if c.Links.Name != "" {
		return c.Links.Name
	}
	return string(Gateway)
}

// gatewayKeys reads the keys of a gateway of this cluster.
func (c Config) gatewayKeys(name string, now time.Time) (static noise.DHKey, cert []byte, err error) {
	static, cert, err = gatewayKeys(c.keyDir(), name, now)
	if err == nil {
		err = checkCluster(cert, c.Cluster)
	}
	return static, cert, err
}

// command returns what starts the worker of a slot. The executable is named by its path, so that a replacement is what lies there then.
func (s *Supervised) command(exe string) func(slot int) *exec.Cmd {
	env := os.Environ()
	if limit := workerMemory(s.cfg.Gateway.WorkerCount()); limit > 0 {
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(limit, 10))
	}
	return func(slot int) *exec.Cmd {
		cmd := exec.Command(exe, "gateway", "--config", s.path, "--worker", strconv.Itoa(slot))
		cmd.Env = env
		return cmd
	}
}

// startedAs returns the path by which the executable exe was started, as its first argument tells. The system only knows the file itself: where
// the path leads through a link to a folder of one version, an upgrade has to follow the link as it is then.
func startedAs(arg, exe string) string {
	path, err := exec.LookPath(arg)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return exe
	}
	is, errIs := os.Stat(path)
	want, errWant := os.Stat(exe)
	if errIs != nil || errWant != nil || !os.SameFile(is, want) {
		return exe
	}
	return path
}

// workerMemory returns a worker's part of this process's memory limit, 0 for none. tuneRuntime has run.
func workerMemory(workers int) int64 {
	limit := debug.SetMemoryLimit(-1)
	if limit >= 1<<62 { // off
		return 0
	}
	return limit / int64(workers)
}

// said passes on what workers write. Their own log lines have all that is to be said; anything else, such as the trace of a panic,
// becomes lines of this log.
func (s *Supervised) said(out io.Writer) func(slot int, line []byte) {
	log := s.log.With("daemon", "gateway")
	return func(slot int, line []byte) {
		if bytes.HasPrefix(line, []byte("time=")) || bytes.HasPrefix(line, []byte(`{"time":`)) {
			_, _ = out.Write(append(bytes.Clone(line), '\n')) // nowhere to report it
			return
		}
		log.Error("worker output", "worker", slot, "line", string(line))
	}
}

// Addr is where clients connect, AdminAddr where the operator does.
func (s *Supervised) Addr() net.Addr      { return s.crew.Addr() }
func (s *Supervised) AdminAddr() net.Addr { return s.adminLn.Addr() }

// Run runs the workers until ctx ends and all of them have drained. ready is called once, when all serve. Each value from reload starts
// a rolling restart with the configuration as it is then.
func (s *Supervised) Run(ctx context.Context, reload <-chan os.Signal, ready func()) error {
	defer s.lock.close()
	services, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- s.serveAdmin(services) }()
	go s.waitReady(services, ready)
	go s.reload(ctx, reload)
	go s.serveUpgrades(services)
	s.crew.Run(ctx)
	s.log.Info("stopped")
	stop()
	return <-served
}

func (s *Supervised) serveAdmin(ctx context.Context) error {
	adm := admin.New(s.crew, time.Now, s.unhealthy, s.unready)
	adm.Note(func() map[string]any {
		return map[string]any{"workers": s.crew.Workers(), "ready": len(s.crew.Answer("/readyz")), "pids": s.crew.PIDs()}
	})
	adm.Page("/worker/{worker}/{page...}", s.crew)
	return adm.Serve(ctx, s.adminLn)
}

// unready has a fault when no worker serves: one that does makes clients welcome, and the page has the number.
func (s *Supervised) unready(time.Time) []admin.Fault { return s.nobody("/readyz", "ready") }

// unhealthy has a fault when no worker is healthy. One that hangs is no reason to restart the others.
func (s *Supervised) unhealthy(time.Time) []admin.Fault { return s.nobody("/healthz", "healthy") }

func (s *Supervised) nobody(page, what string) []admin.Fault {
	if len(s.crew.Answer(page)) > 0 {
		return nil
	}
	return []admin.Fault{{Name: "workers", Why: fmt.Sprintf("none of %d is %s", s.crew.Workers(), what)}}
}

// waitReady calls ready when all workers serve. It asks ever less often: one that never does would have a hundred others asked for ever.
func (s *Supervised) waitReady(ctx context.Context, ready func()) {
	warned := false
	for pause, start := readyPause, time.Now(); ; pause = min(pause*5/4, maxReadyPause) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		serve := len(s.crew.Answer("/readyz"))
		if serve == s.crew.Workers() {
			ready()
			return
		}
		if !warned && time.Since(start) > startLimit {
			warned = true
			s.log.Warn("not all workers are ready yet", "ready", serve, "workers", s.crew.Workers())
		}
	}
}

const (
	readyPause    = 50 * time.Millisecond
	maxReadyPause = 5 * time.Second
)

// reload replaces all workers, one after the other, whenever it is asked to.
func (s *Supervised) reload(ctx context.Context, asked <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
		}
		_ = s.roll(ctx) // it has logged what it returns
	}
}

// roll replaces all workers, one after the other, and logs how that went.
func (s *Supervised) roll(ctx context.Context) error {
	text, err := s.again()
	if err == nil {
		s.log.Info("rolling restart", "workers", s.crew.Workers())
		err = s.crew.Roll(ctx, text)
	}
	if err != nil {
		s.log.Error("rolling restart given up", "err", strings.ReplaceAll(err.Error(), "\n", "; "))
	} else {
		s.log.Info("rolling restart done")
	}
	return err
}

// serveUpgrades does what reload does for who asks on the hand-over socket.
func (s *Supervised) serveUpgrades(ctx context.Context) {
	if err := gateway.ServeUpgrades(ctx, s.cfg.handoverSocket(), s.log, func() error { return s.roll(ctx) }); err != nil {
		s.log.Warn("upgrades cannot be asked for, but by SIGHUP", "err", err)
	}
}

// again reads the configuration anew. What the supervisor itself holds cannot change in a rolling restart.
func (s *Supervised) again() ([]byte, error) {
	text, cfg, err := readGateway(s.path)
	if err != nil {
		return nil, err
	}
	var fixed []string
	for _, f := range []struct {
		key       string
		was, want any
	}{
		{"cluster", s.cfg.Cluster, cfg.Cluster}, {"data", s.cfg.Data, cfg.Data}, {"admin.listen", s.cfg.Admin.Listen, cfg.Admin.Listen},
		{"gateway.listen", s.cfg.Gateway.Listen, cfg.Gateway.Listen}, {"log", s.cfg.Log, cfg.Log},
		{"gateway.workers", s.cfg.Gateway.WorkerCount(), cfg.Gateway.WorkerCount()},
		// How long it is patient with workers, and where it is asked.
		{"gateway.drain_timeout", s.cfg.Gateway.DrainTimeout, cfg.Gateway.DrainTimeout}, {"admin.turn_limit", s.cfg.Admin.TurnLimit, cfg.Admin.TurnLimit},
		{"gateway.handover_socket", s.cfg.handoverSocket(), cfg.handoverSocket()},
	} {
		if !reflect.DeepEqual(f.was, f.want) {
			fixed = append(fixed, f.key)
		}
	}
	if len(fixed) > 0 {
		return nil, errors.New("needs a restart of the supervisor: " + strings.Join(fixed, ", "))
	}
	return text, nil
}

// exitOrphaned is the exit code of a worker whose supervisor is gone.
const exitOrphaned = 3

// leastCredit keeps the share of links.credit large enough for the largest envelope.
const leastCredit = 256 << 10

// RunWorker runs a worker process: it takes the seat that its supervisor left it, and returns when it has drained.
func RunWorker(ctx context.Context, w io.Writer) error {
	seat, err := gateway.TakeSeat()
	if err != nil {
		return err
	}
	cfg := DefaultConfig()
	if err := config.Decode(seat.Config, &cfg); err != nil {
		return err
	}
	cfg.share(seat)
	log := cfg.Logger(w).With("worker", seat.Slot)
	n, err := newNode(cfg, []Role{Gateway}, log, seat)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := seat.Watch(func() { n.gateway.Leave(); cancel() }, cancel)
		if err != nil {
			log.Error("ending at once", "err", err)
			os.Exit(exitOrphaned)
		}
	}()
	err = n.Run(ctx, nil)
	return errors.Join(err, seat.Report(n.reg))
}

// share makes the machine's configuration that of one worker.
func (c *Config) share(seat *gateway.Seat) {
	c.Worker = seat.Worker
	c.Gateway = c.Gateway.Share(seat.Workers, seat.Slot-1)
	c.Links.Credit = max(c.Links.Credit/config.Size(seat.Workers), min(c.Links.Credit, leastCredit))
	c.Log.ClientBurst = max(c.Log.ClientBurst/seat.Workers, 1)
	c.Log.ClientEvery = config.Duration(min(c.Log.ClientEvery.D()*time.Duration(seat.Workers), time.Hour))
}
