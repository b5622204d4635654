package gateway

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// maxProxySources bounds the list of balancers: each connection is held against all of it.
const maxProxySources = 64

// parseSources reads addresses and networks, and returns what is wrong with any of them. An address with bits behind its network's length is
// refused: 10.0.0.1/8 is more likely a typing error than trust in sixteen million addresses.
func parseSources(list []string) (nets []netip.Prefix, faults []error) {
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if ip, e := netip.ParseAddr(text); e == nil && ip.Zone() == "" {
			p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		switch {
		case err != nil || p.Addr().Is4In6():
			faults = append(faults, fmt.Errorf("%q: want an address or a network, such as 10.0.0.7, 10.1.0.0/16 or 2001:db8::/64", text))
		case p != p.Masked():
			faults = append(faults, fmt.Errorf("%q: want %v, or an address", text, p.Masked()))
		default:
			nets = append(nets, p)
		}
	}
	return nets, faults
}

// forwards reports whether a connection from that address is a balancer's, and begins with a PROXY header.
func (g *Gateway) forwards(from netip.Addr) bool {
	for _, p := range g.balancers {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

// readProxy takes the PROXY header of a connection, if it is whole: from here on it counts as its client's. It is required, for a
// balancer without it would have all its clients share the limits of one, and nobody would know why some of them are refused.
func (l *loop) readProxy(h *handshake, c gnet.Conn, n int) (whole bool, action gnet.Action) {
	h.check = false
	b, _ := c.Peek(min(n, wire.MaxProxy))
	p, err := wire.ParseProxy(b)
	if err != nil {
		l.g.badProxy(c, err)
		return false, l.sayRefused(h, stanza.ReasonBadProxyHeader, 0)
	}
	if p.Size == 0 {
		return false, gnet.None
	}
	h.stage, h.check = stagePreamble, p.Local
	if p.From.IsValid() {
		h.source = sourceOf(p.From)
	}
	_, _ = c.Discard(p.Size)
	return true, gnet.None
}

// badProxy counts and logs a header that is none. The line names the balancer, which is no client.
func (g *Gateway) badProxy(c gnet.Conn, err error) {
	g.metrics.handshake(stanza.ReasonBadProxyHeader)
	g.lines.WriteWith(slog.LevelWarn, "a balancer's connection refused: is it meant to be in proxy_sources, and does it send version 2?",
		stanza.ReasonBadProxyHeader, slog.String("from", remoteOf(c).String()), slog.Any("err", err))
}
