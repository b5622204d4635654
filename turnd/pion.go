package turnd

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/pion/logging"
	"github.com/pion/turn/v3"
)

// openPion starts a pion server for the fronts. It reads from them only: what it gets was looked at, what it answers is looked at, and
// none of its listeners is in use.
func (s *Server) openPion() error {
	cfg := turn.ServerConfig{Realm: s.cfg.Realm, LoggerFactory: silence{}}
	for _, f := range s.fronts {
		cfg.PacketConnConfigs = append(cfg.PacketConnConfigs, turn.PacketConnConfig{PacketConn: f, RelayAddressGenerator: &generator{front: f}})
	}
	cfg.AuthHandler = s.keyOf
	p, err := turn.NewServer(cfg)
	if err != nil {
		return fmt.Errorf("pion: %w", err)
	}
	s.pion = p
	return nil
}

// keyOf gives pion the key of the request that a front has given it: the front's number is the name that the front wrote there. It is
// called on that front's goroutine.
func (s *Server) keyOf(number, _ string, _ net.Addr) ([]byte, bool) {
	i, err := strconv.Atoi(number)
	if err != nil || i < 0 || i >= len(s.fronts) || s.fronts[i].current == nil {
		return nil, false
	}
	return s.fronts[i].current.key, true
}

// generator opens the relay for the request that pion has. It is called on the front's goroutine.
type generator struct{ front *front }

// Validate has nothing to find: Config.Validate was before it.
func (g *generator) Validate() error { return nil }

// AllocatePacketConn opens a relay.
func (g *generator) AllocatePacketConn(string, int) (net.PacketConn, net.Addr, error) {
	f := g.front
	s, q := f.server, f.current
	if q == nil || q.place == nil && q.kept == nil {
		return nil, nil, errNoRequest
	}
	a := &allocation{front: f, client: q.client, via: q.via, began: s.deps.Clock(), id: q.id}
	r := &relay{server: s, owner: a, closed: make(chan struct{})}
	if q.kept != nil {
		r.sock, r.local, a.owner, q.kept = q.kept.sock, q.kept.local, q.kept.place, nil
	} else {
		opened, err := s.openRelay(q.via, q.evenPort != nil, q.wantsNext())
		if err != nil {
			q.failed = NoPorts
			s.lines.WriteWith(slog.LevelWarn, "no relay can be opened", NoPorts, slog.Any("error", err))
			return nil, nil, err
		}
		r.sock, r.local, a.owner, q.place = opened[0], opened[0].local(), q.place, nil
		if len(opened) > 1 {
			a.token, q.next = s.reservations.keep(opened[1], opened[1].local(), q.next), nil
		}
	}
	a.relay = r
	a.peers.Store(&peers{})
	q.made = a
	return r, net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.policy.external, r.local.Port())), nil
}

// AllocateConn is for TCP relays, which there are none of.
func (g *generator) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errNoRequest
}

// portTries is how many ports are tried at random before it is said that there are none: where 98 of 100 are taken, one of 170 clients is
// told so too early, and who asks when all are taken costs a millisecond.
const portTries = 256

// openRelay opens a socket on a free port, by chance: whoever knows one port should not know the next one (RFC 5766 6.2). It may have to
// be an even one, and then the one after it may be wanted, too: that one is a socket for clients of any kind.
func (s *Server) openRelay(via carrier, even, next bool) ([]port, error) {
	span := int64(s.policy.maxPort) - int64(s.policy.minPort) + 1
	last := errNoPort
	for range portTries {
		n, err := rand.Int(rand.Reader, big.NewInt(span))
		if err != nil {
			return nil, err
		}
		number := s.policy.minPort + uint16(n.Int64())
		if even {
			number &^= 1
		}
		if number < s.policy.minPort || next && number == s.policy.maxPort {
			continue
		}
		var first, second port
		if first, last = s.open(via, netip.AddrPortFrom(s.policy.relay, number)); last != nil {
			if errors.Is(last, syscall.EMFILE) || errors.Is(last, syscall.ENFILE) {
				return nil, last // another port takes a descriptor, too
			}
			continue
		}
		if !next {
			return []port{first}, nil
		}
		if second, last = s.open(nil, netip.AddrPortFrom(s.policy.relay, number+1)); last == nil {
			return []port{first, second}, nil
		}
		first.close()
	}
	return nil, last
}

// silence is what pion logs: addresses and what strangers do wrong, as fast as they can.
type silence struct{}

func (silence) NewLogger(string) logging.LeveledLogger { return silence{} }
func (silence) Trace(string)                           {}
func (silence) Tracef(string, ...interface{})          {}
func (silence) Debug(string)                           {}
func (silence) Debugf(string, ...interface{})          {}
func (silence) Info(string)                            {}
func (silence) Infof(string, ...interface{})           {}
func (silence) Warn(string)                            {}
func (silence) Warnf(string, ...interface{})           {}
func (silence) Error(string)                           {}
func (silence) Errorf(string, ...interface{})          {}
