package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"linecard.example/bench/relay"
)

// turnServer is a relay that is measured: turnd, or another one. daemon is its process.
type turnServer struct {
	key, name string
	daemon    *daemon
	addr      string
	start     func(context.Context) error // returns when it serves
}

// pids are the server's processes; neither has children.
func (s *turnServer) pids() []int { return []int{s.daemon.pid()} }

// What clients show to every server.
const (
	relayUser     = "bench"
	relayPassword = "bench"
)

// Ports that are relayed from, below those that clients get from the kernel. turnd's and coturn's are apart, since both run at the same time.
const (
	turndMinPort  = 10000
	turndMaxPort  = 19999
	coturnMinPort = 20000
	coturnMaxPort = 29999
)

// relayLimits takes what turnd allows one account out of the way, and what it denies of this machine.
const relayLimits = `users = { ` + relayUser + ` = "` + relayPassword + `" }
allow_peers = ["127.0.0.0/8"]
account_allocations = 20000
account_rate = "0B"
account_requests = 1000000
source_rate = 1e6
source_burst = 1000000
drain = "0s"
`

// prepareRelay makes key and configuration of a turnd behind a router.
func (s *system) prepareRelay(o Options, keys, router string) error {
	addrs, err := freeAddrs(1)
	if err != nil {
		return err
	}
	if s.relay, err = freeBoth(); err != nil {
		return err
	}
	if err := o.run("keys", "issue", "turnd", "--dir", keys); err != nil {
		return err
	}
	text := fmt.Sprintf("data = %q\n[admin]\nlisten = %q\n[log]\n%s\n[links]\nkeys = %q\nname = \"turnd\"\nrouters = [%q]\n%s\n", filepath.Join(s.dir, "turnd-data"), addrs[0],
		o.Settings["log"], keys, router, o.Settings["links"])
	text += fmt.Sprintf("[relay]\nudp = [%q]\ntcp = []\nmin_port = %d\nmax_port = %d\n%s%s", s.relay, turndMinPort, turndMaxPort, relayLimits, o.Settings["relay"])
	if err := os.WriteFile(s.config("turnd"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	s.add(o, "turnd", addrs[0])
	return nil
}

// turnd returns the system's turnd.
func (s *system) turnd() *turnServer {
	d := s.daemon("turnd")
	return &turnServer{key: "turnd", name: "turnd", daemon: d, addr: s.relay, start: func(ctx context.Context) error {
		if err := d.start(); err != nil {
			return err
		}
		return d.ready(ctx)
	}}
}

// coturn returns a coturn with its defaults, but for what it must be told to relay between sockets of this machine for a user, and to keep
// no log, as turnd has none of packets. It listens on one address, as turnd does.
func (s *system) coturn(exe string) (*turnServer, error) {
	addr, err := freeBoth()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("bench: coturn: %w", err)
	}
	d := &daemon{name: "coturn", part: "coturn", exe: exe, log: filepath.Join(s.dir, "coturn.log"), args: []string{
		"-n", "--no-tls", "--no-dtls", "--lt-cred-mech", "--user", relayUser + ":" + relayPassword, "--realm", "bench", "--listening-ip", host, "--relay-ip", host,
		"--listening-port", port, "--allow-loopback-peers", "--no-cli", "--min-port", strconv.Itoa(coturnMinPort), "--max-port", strconv.Itoa(coturnMaxPort),
		"--no-stdout-log", "--log-file", os.DevNull, "--simple-log", "--no-rfc5780", "--pidfile", filepath.Join(s.dir, "coturn.pid"), "--userdb", filepath.Join(s.dir, "coturn.db"),
	}}
	return &turnServer{key: "coturn", name: "coturn", daemon: d, addr: addr, start: func(ctx context.Context) error {
		if err := d.start(); err != nil {
			return err
		}
		if err := answers(ctx, addr); err != nil {
			return fmt.Errorf("%w coturn does not answer: %w\n%s", errDaemon, err, d.tail())
		}
		return nil
	}}, nil
}

// freeBoth returns a loopback address whose port was free for TCP and UDP a moment ago.
func freeBoth() (string, error) {
	for range 100 {
		addrs, err := freeAddrs(1)
		if err != nil {
			return "", err
		}
		c, err := net.ListenPacket("udp4", addrs[0])
		if err != nil {
			continue // another program's
		}
		return addrs[0], c.Close()
	}
	return "", fmt.Errorf("%w: no port is free for TCP and UDP", errOptions)
}

// options are those of a run of bench/relay against the server.
func (s *turnServer) options(o relay.Options) relay.Options {
	o.Server, o.User, o.Password, o.PIDs = netip.MustParseAddrPort(s.addr), relayUser, relayPassword, s.pids()
	return o
}
