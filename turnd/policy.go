package turnd

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// reserved are the ranges that no peer in the Internet has: what is behind them is this machine, its neighbours, or a way around this list.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),        // this network
	netip.MustParsePrefix("10.0.0.0/8"),       // private
	netip.MustParsePrefix("100.64.0.0/10"),    // behind a carrier's NAT; also a cloud's metadata (100.100.100.200)
	netip.MustParsePrefix("127.0.0.0/8"),      // loopback
	netip.MustParsePrefix("169.254.0.0/16"),   // link-local; clouds' metadata (169.254.169.254)
	netip.MustParsePrefix("172.16.0.0/12"),    // private
	netip.MustParsePrefix("192.0.0.0/24"),     // protocol assignments; a cloud's metadata (192.0.0.192)
	netip.MustParsePrefix("192.0.2.0/24"),     // documentation
	netip.MustParsePrefix("192.88.99.0/24"),   // 6to4 relays
	netip.MustParsePrefix("192.168.0.0/16"),   // private
	netip.MustParsePrefix("198.18.0.0/15"),    // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"),  // documentation
	netip.MustParsePrefix("203.0.113.0/24"),   // documentation
	netip.MustParsePrefix("224.0.0.0/4"),      // multicast
	netip.MustParsePrefix("240.0.0.0/4"),      // reserved, broadcast
	netip.MustParsePrefix("168.63.129.16/32"), // a cloud's metadata, in the middle of the Internet's addresses
	netip.MustParsePrefix("::/8"),             // unspecified, loopback, IPv4 in all its old disguises, NAT64 (64:ff9b::/96, 64:ff9b:1::/48)
	netip.MustParsePrefix("100::/64"),         // discard
	netip.MustParsePrefix("2001::/23"),        // Teredo and other protocol assignments
	netip.MustParsePrefix("2001:db8::/32"),    // documentation
	netip.MustParsePrefix("2002::/16"),        // 6to4
	netip.MustParsePrefix("3fff::/20"),        // documentation
	netip.MustParsePrefix("5f00::/16"),        // segment routing
	netip.MustParsePrefix("fc00::/7"),         // private; a cloud's metadata (fd00:ec2::254)
	netip.MustParsePrefix("fe80::/10"),        // link-local
	netip.MustParsePrefix("fec0::/10"),        // site-local
	netip.MustParsePrefix("ff00::/8"),         // multicast
}

// policy says which peers may be relayed to. It is not changed once New has returned.
type policy struct {
	allow, deny      []netip.Prefix
	own              map[netip.Addr]bool // addresses of this machine
	listening        map[uint16]bool     // ports where clients are listened to over UDP
	relay, external  netip.Addr          // external is relay where there is no NAT
	minPort, maxPort uint16
}

// newPolicy reads the addresses of this machine.
func newPolicy(cfg Config) (*policy, error) {
	p := &policy{
		own: map[netip.Addr]bool{}, listening: map[uint16]bool{}, relay: netip.MustParseAddr(cfg.RelayAddress),
		minPort: uint16(cfg.MinPort), maxPort: uint16(cfg.MaxPort),
	}
	p.external = p.relay
	if cfg.ExternalAddress != "" {
		p.external = netip.MustParseAddr(cfg.ExternalAddress)
	}
	for _, s := range cfg.AllowPeers {
		p.allow = append(p.allow, netip.MustParsePrefix(s).Masked())
	}
	for _, s := range cfg.DenyPeers {
		p.deny = append(p.deny, netip.MustParsePrefix(s).Masked())
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range local {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				p.own[ip.Unmap()] = true
			}
			if ip, ok := broadcast(n); ok {
				p.deny = append(p.deny, netip.PrefixFrom(ip, 32))
			}
		}
	}
	p.own[p.relay], p.own[p.external] = true, true
	return p, nil
}

// broadcast returns the address that means all machines of a network: what is sent there is answered many times. Even a network that may be
// relayed to has none for clients.
func broadcast(n *net.IPNet) (netip.Addr, bool) {
	ip, ones := n.IP.To4(), 0
	if ip != nil {
		ones, _ = n.Mask.Size()
	}
	if ones == 0 || ones > 30 { // links of two have none
		return netip.Addr{}, false
	}
	all := ^uint32(0) >> ones
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(ip)|all))), true
}

// address reports whether there may be a permission for an address; it must be unmapped, and an IPv4 one.
func (p *policy) address(ip netip.Addr) bool {
	switch {
	case !ip.Is4(), within(p.deny, ip):
		return false
	case ip == p.relay, ip == p.external: // of other allocations here; endpoint holds it to their ports
		return true
	case within(p.allow, ip):
		return true
	}
	return !p.own[ip] && !within(reserved, ip)
}

// endpoint reports whether packets may be sent to an address and port, and which one that is from here: relayed addresses of this server
// are reached without a NAT in front of it. A permission has no port, so this is asked for each channel and each Send. No relay is a client of
// this server, whatever is allowed: each link of such a chain would be a source with limits of its own.
func (p *policy) endpoint(a netip.AddrPort) (netip.AddrPort, bool) {
	ip := a.Addr()
	if a.Port() == 0 || !p.address(ip) {
		return a, false
	}
	if p.listening[a.Port()] && (p.own[ip] || ip.IsLoopback()) {
		return a, false
	}
	if ip != p.relay && ip != p.external {
		return a, true
	}
	if a.Port() >= p.minPort && a.Port() <= p.maxPort {
		return netip.AddrPortFrom(p.relay, a.Port()), true
	}
	return a, within(p.allow, ip)
}

// inward is the address that packets of a peer with an address come from.
func (p *policy) inward(ip netip.Addr) netip.Addr {
	if ip == p.external {
		return p.relay
	}
	return ip
}

// outward is what clients know the sender of a packet as.
func (p *policy) outward(a netip.AddrPort) netip.AddrPort {
	if a.Addr() == p.relay {
		return netip.AddrPortFrom(p.external, a.Port())
	}
	return a
}

func within(list []netip.Prefix, ip netip.Addr) bool {
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
