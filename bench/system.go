package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"linecard.example/bench/meter"
)

// lifted takes the admission limits out of the way, which all load from few addresses would run into; their work is still done.
const lifted = `handshake_rate = 1e9
handshake_burst = 1000000
register_rate = 1e9
register_burst = 1000000
`

// system is linecard under load, started here or found elsewhere.
type system struct {
	servers []netip.AddrPort
	root    string // the root's line
	dir     string // of everything that was started here; "" when nothing was
	daemons []*daemon
	admins  map[string][]string // of servers elsewhere
	media   []string            // URLs of mediads, where some were asked for: plain, TLS
	relay   string              // turnd's address, where one was asked for
}

// startSystem starts servers for so many sessions and waits until they are ready, or takes those that the options name.
func startSystem(ctx context.Context, o Options, sessions int) (*system, error) {
	if o.remote() {
		return &system{servers: o.Gateways, root: o.Root, admins: o.Admins}, nil
	}
	dir, err := os.MkdirTemp(o.Dir, "linecard-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	s := &system{dir: dir}
	prepare := s.prepare
	if o.Shape == Replicas {
		prepare = s.found
	}
	if err := prepare(o, sessions); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// prepare makes keys and configurations.
func (s *system) prepare(o Options, sessions int) error {
	addrs, err := freeAddrs(6)
	if err != nil {
		return err
	}
	server := addrs[0]
	s.servers = []netip.AddrPort{netip.MustParseAddrPort(server)}
	gateway := fmt.Sprintf("[gateway]\nlisten = %q\n%s%s%s", server, lifted, workers(o, sessions), o.Settings["gateway"])
	if o.Media {
		gateway += mediaGrants
	}
	if o.Shape == Together {
		if o.Settings["links"] != "" {
			return fmt.Errorf("%w: there are no links in one process: settings of them need --shape apart", errOptions)
		}
		s.add(o, "up", addrs[1], "--data", filepath.Join(s.dir, "data"), "--listen", server, "--admin", addrs[1], "--media", "off", "--relay", "off")
		return s.write(o, "up", addrs[1], "", gateway)
	}
	keys := filepath.Join(s.dir, "keys")
	if err := o.run("keys", "init", "--dir", keys, "--cluster", "local"); err != nil {
		return err
	}
	router, offline := addrs[4], addrs[5]
	for _, d := range []struct{ part, admin, links string }{ // in the order of their start
		{"offline", addrs[1], fmt.Sprintf("listen = %q\n", offline)},
		{"router", addrs[2], fmt.Sprintf("listen = %q\nofflines = [%q]\n", router, offline)},
		{"gateway", addrs[3], fmt.Sprintf("routers = [%q]\nofflines = [%q]\n", router, offline)},
	} {
		if err := o.run("keys", "issue", d.part, "--dir", keys); err != nil {
			return err
		}
		links := fmt.Sprintf("[links]\nkeys = %q\n%s%s", keys, d.links, o.Settings["links"])
		var args []string
		if d.part != "gateway" {
			args = []string{"--bootstrap"}
		}
		s.add(o, d.part, d.admin, args...)
		if err := s.write(o, d.part, d.admin, links, gateway); err != nil {
			return err
		}
	}
	if o.Media {
		if err := s.prepareMedia(o, keys, router); err != nil {
			return err
		}
	}
	if o.Relay {
		if err := s.prepareRelay(o, keys, router); err != nil {
			return err
		}
	}
	return s.readRoot(filepath.Join(keys, "root.pub"))
}

func (s *system) add(o Options, part, admin string, args ...string) {
	s.daemons = append(s.daemons, &daemon{
		name: part, part: part, exe: o.Exe, admin: admin, log: filepath.Join(s.dir, part+".log"),
		args: append([]string{part, "--config", s.config(part)}, args...),
	})
}

func (s *system) config(part string) string { return filepath.Join(s.dir, part+".toml") }

func (s *system) write(o Options, part, admin, links, gateway string) error {
	text := fmt.Sprintf("data = %q\n[admin]\nlisten = %q\n[log]\n%s\n%s\n%s\n[router]\n%s\n[offline]\n%s\n", filepath.Join(s.dir, part+"-data"), admin,
		o.Settings["log"], links, gateway, o.Settings["router"], o.Settings["offline"])
	if err := os.WriteFile(s.config(part), []byte(text), 0o600); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// workers returns the line of the configuration that says how many processes share the gateway's port.
func workers(o Options, sessions int) string {
	switch {
	case o.Shape == Together:
		return ""
	case o.Workers > 0:
		return fmt.Sprintf("workers = %d\n", o.Workers)
	}
	if _, hard := meter.FileLimits(); sessions+gatewaySpare > int(min(hard, 1<<30)) {
		return fmt.Sprintf("sessions = %d\n", sessions)
	}
	return ""
}

// gatewaySpare is how many descriptors a gateway keeps for what is no session.
const gatewaySpare = 256

// start starts what does not run and waits until all is ready.
func (s *system) start(ctx context.Context) error {
	for _, d := range s.daemons {
		if !d.running() {
			if err := d.start(); err != nil {
				return err
			}
		}
	}
	for _, d := range s.daemons {
		if err := d.ready(ctx); err != nil {
			return err
		}
	}
	if s.root == "" { // `up` has made its keys by itself
		return s.readRoot(filepath.Join(s.dir, "data", "root.pub"))
	}
	return nil
}

func (s *system) readRoot(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	s.root = strings.TrimSpace(string(text))
	return nil
}

// stop ends the servers in order, the gateway first; start brings them back with their data.
func (s *system) stop() error {
	var faults []error
	for i := len(s.daemons) - 1; i >= 0; i-- {
		faults = append(faults, s.daemons[i].stop())
	}
	return errors.Join(faults...)
}

// close ends the servers and removes what they left.
func (s *system) close() error {
	err := s.stop()
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// check reports a server that has ended by itself.
func (s *system) check() error {
	for _, d := range s.daemons {
		if !d.running() {
			return fmt.Errorf("%w %s has ended:\n%s", errDaemon, d.name, d.tail())
		}
	}
	return nil
}

// run runs the binary to its end.
func (o Options) run(args ...string) error {
	if out, err := exec.Command(o.Exe, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("bench: linecard %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Ports that servers get: below those that the kernel gives to clients, which would have one while a server is started again.
const (
	serverMinPort = 30000
	serverMaxPort = 32767
)

// freeAddrs returns loopback addresses whose ports were free a moment ago, all different.
func freeAddrs(n int) (all []string, err error) {
	for range 100 * n {
		if len(all) == n {
			return all, nil
		}
		var ln net.Listener
		if ln, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", serverMinPort+rand.IntN(serverMaxPort-serverMinPort+1))); err != nil {
			continue
		}
		defer ln.Close() // held until all are found, so that none comes twice
		all = append(all, ln.Addr().String())
	}
	if len(all) < n {
		return nil, fmt.Errorf("bench: a free port: %w", err)
	}
	return all, nil
}
