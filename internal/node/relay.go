package node

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"linecard.example/internal/config"
	"linecard.example/turnd"
)

// RelayOff is what --relay is given for `up` without a turnd; in a file that is a relay section without any address for clients.
const RelayOff = "off"

// SetRelay has clients use the relay at addr, HOST:PORT, over UDP and TCP, or has `up` run without one for RelayOff. A host that is an IPv4
// address is also where relayed packets come from, unless the configuration says another one.
func (c *Config) SetRelay(addr string) {
	c.Relay.UDP, c.Relay.TCP, c.Relay.TLS, c.Relay.DTLS = nil, nil, nil, nil
	if addr == RelayOff {
		return
	}
	c.Relay.UDP, c.Relay.TCP = []string{addr}, []string{addr}
	host, _, err := net.SplitHostPort(addr)
	if ip, bad := netip.ParseAddr(host); err == nil && bad == nil && ip.Is4() && !ip.IsUnspecified() && c.Relay.RelayAddress == turnd.DefaultConfig().RelayAddress {
		c.Relay.RelayAddress = host
	}
}

// relayTransport is a way from clients to a relay.
type relayTransport struct {
	name, scheme, transport string // as the configuration calls it; of a URI (RFC 7065)
	addrs                   []string
}

func (c Config) relayTransports() []relayTransport {
	r := &c.Relay
	return []relayTransport{{"udp", "turn", "udp", r.UDP}, {"tcp", "turn", "tcp", r.TCP}, {"tls", "turns", "tcp", r.TLS}, {"dtls", "turns", "udp", r.DTLS}}
}

// relayed reports whether the process runs a turnd; `up` does where clients have an address of it.
func (c Config) relayed(together bool) bool {
	return !together || len(c.Relay.UDP)+len(c.Relay.TCP)+len(c.Relay.TLS)+len(c.Relay.DTLS) > 0
}

// validateRelay checks the relay section for the processes that read it.
func (c Config) validateRelay(f config.Faults, together bool) {
	f.Check(together || len(c.Links.Routers) > 0, "links.routers", "a turnd needs the addresses of the routers, which tell it what credentials are verified with")
	if !c.relayed(together) {
		return
	}
	f.Add(c.Relay.Validate()...)
	f.Check(!together || c.Gateway.RelayLife < c.Relay.CredentialLife, "gateway.relay_life, relay.credential_life", "want credentials to end before the relay refuses them for their length")
	if !together || len(c.Gateway.RelayURLs) > 0 {
		return
	}
	for _, t := range c.relayTransports() {
		for _, a := range t.addrs {
			host, _, err := net.SplitHostPort(a)
			ip := net.ParseIP(host)
			f.Check(err != nil || host != "" && (ip == nil || !ip.IsUnspecified()), "gateway.relay_urls",
				"clients are told where relay.%s is, and %q is nowhere: want the URLs that they reach it at", t.name, a)
		}
	}
	f.Check(c.Relay.ExternalAddress == "", "gateway.relay_urls", "clients are told where the relay listens, which is behind a NAT: want the URLs that they reach it at")
}

// openRelay opens the turnd, and before any gateway: that of `up` tells clients where it is.
func (n *Node) openRelay() (err error) {
	if !n.runs(Relay) || !n.cfg.relayed(n.together()) {
		return nil
	}
	log := n.log.With("daemon", string(Relay))
	n.relay, err = turnd.New(n.cfg.Relay, turnd.Deps{
		Node: n.id.id, Incarnation: n.incarnation, Shards: n.cfg.Shards, Cluster: n.cfg.Cluster, Region: n.cfg.Region.Region(),
		LinkCredit: n.cfg.Links.Credit.Int(), Lines: n.cfg.Log.budget(), Board: n.board(), Logger: log, Registerer: n.reg, Clock: n.clock,
		Alone: !n.together(),
	})
	if err != nil {
		return err
	}
	n.cfg.warnOfFiles(log, openFiles())
	if n.together() && len(n.cfg.Gateway.RelayURLs) == 0 {
		n.cfg.Gateway.RelayURLs = n.RelayURLs()
	}
	return nil
}

// relaySpare is how many file descriptors a turnd needs besides those of allocations and connections: listeners, pollers, links, log.
const relaySpare = 256

// warnOfFiles says that limit, of open files, ends allocations before the configuration does. Not more than that: it is met only when so
// many clients come, which are then refused no_ports, or not accepted for a while.
func (c *Config) warnOfFiles(log *slog.Logger, limit int) {
	wanted := c.Relay.Allocations + relaySpare
	if len(c.Relay.TCP)+len(c.Relay.TLS) > 0 { // DTLS has one socket for all
		wanted += c.Relay.Connections
	}
	if limit < wanted {
		log.Warn("the limit of open files is below what allocations and connections may take", "limit", limit, "wanted", wanted,
			"allocations", c.Relay.Allocations, "connections", c.Relay.Connections)
	}
}

// openFiles is the process's limit of open files; Go has raised it to the hard one.
func openFiles() int {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && r.Cur < math.MaxInt32 {
		return int(r.Cur)
	}
	return math.MaxInt32
}

// RelayURLs is where clients reach the turnd of this process, as its listeners say; nil without one. A host that is configured by name stays
// one: certificates are for names.
func (n *Node) RelayURLs() (all []string) {
	if n.relay == nil {
		return nil
	}
	for _, t := range n.cfg.relayTransports() {
		for i, a := range n.relay.Addrs(t.name) { // in the order of the configuration
			at := a.String()
			host, _, _ := net.SplitHostPort(t.addrs[i])
			if _, port, err := net.SplitHostPort(at); err == nil && host != "" {
				at = net.JoinHostPort(host, port)
			}
			all = append(all, fmt.Sprintf("%s:%s?transport=%s", t.scheme, at, t.transport))
		}
	}
	return all
}

// RelayText is RelayURLs for people.
func (n *Node) RelayText() string { return strings.Join(n.RelayURLs(), " ") }
