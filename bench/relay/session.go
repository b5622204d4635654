package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

var errTaken = fmt.Errorf("%w: refused: %d", errOptions, taken)

const (
	channel = 0x4000
	// tries and tryTime bound the wait for an answer.
	tries   = 5
	tryTime = 500 * time.Millisecond
)

// session is one allocation with a channel to a peer. Its sockets are connected: to the server, and to the relayed address.
type session struct {
	client, peer *net.UDPConn
	relayed      netip.AddrPort

	// engine
	clientFD, peerFD int
	underWay         int
	last             int64 // when something came back
}

func (s *session) close() {
	if s.client != nil {
		s.client.Close()
	}
	if s.peer != nil {
		s.peer.Close()
	}
}

// login is what requests are signed with.
type login struct {
	user, password, realm, nonce string
	key                          []byte
}

// taken is the code of a server that has an allocation for the client's address (RFC 5766 6.2): some keep one for a while after its end, and the
// kernel gives its port to the next client.
const taken = 437

// ports is how many ports are tried for an allocation.
const ports = 100

// open allocates, from a port that the server knows nothing of, and binds a channel to a new peer socket.
func open(o Options, l *login) (s *session, err error) {
	for range ports {
		if s, err = openOnce(o, l); !errors.Is(err, errTaken) {
			return s, err
		}
	}
	return s, err
}

// openOnce is open from one port. The login's nonce serves for what follows, where the server lets it.
func openOnce(o Options, l *login) (_ *session, err error) {
	s := &session{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err = s.allocate(o.Server, l); err != nil {
		return nil, err
	}
	if s.peer, err = net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, net.UDPAddrFromAddrPort(s.relayed)); err != nil {
		return nil, fmt.Errorf("relay bench: peer socket: %w", err)
	}
	return s, s.bind(l, s.peer.LocalAddr().(*net.UDPAddr).AddrPort())
}

// allocate opens the client's socket and asks for a relayed address.
func (s *session) allocate(server netip.AddrPort, l *login) (err error) {
	if s.client, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server)); err != nil {
		return fmt.Errorf("relay bench: client socket: %w", err)
	}
	r, err := s.ask(l, allocate, func(q *request) { q.attr(attrTransport, 17, 0, 0, 0) })
	if err != nil {
		return fmt.Errorf("relay bench: allocate: %w", err)
	}
	s.relayed = r.relayed
	return nil
}

// bind binds the channel to a peer.
func (s *session) bind(l *login, peer netip.AddrPort) error {
	if _, err := s.ask(l, channelBind, func(q *request) {
		q.attr(attrChannel, channel>>8, channel&0xff, 0, 0)
		q.peer(peer)
	}); err != nil {
		return fmt.Errorf("relay bench: channel: %w", err)
	}
	return nil
}

// openDirect makes a session without a relay: each socket is connected to the other.
func openDirect(Options, *login) (_ *session, err error) {
	s := &session{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.client, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, fmt.Errorf("relay bench: client socket: %w", err)
	}
	if s.peer, err = net.DialUDP("udp4", nil, s.client.LocalAddr().(*net.UDPAddr)); err != nil {
		return nil, fmt.Errorf("relay bench: peer socket: %w", err)
	}
	raw, err := s.client.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("relay bench: client socket: %w", err)
	}
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: s.peer.LocalAddr().(*net.UDPAddr).Port}
	failed := raw.Control(func(fd uintptr) { err = unix.Connect(int(fd), to) })
	if err = errors.Join(failed, err); err != nil {
		return nil, fmt.Errorf("relay bench: client socket: %w", err)
	}
	return s, nil
}

// release ends the allocation, as far as the server hears it.
func (s *session) release(l *login) {
	_, _ = s.ask(l, refresh, func(q *request) { q.attr(attrLifetime, 0, 0, 0, 0) })
}

// ask sends a request until it is answered, with credentials as soon as the server has told its realm.
func (s *session) ask(l *login, typ uint16, fill func(*request)) (_ response, last error) {
	buf := make([]byte, 2048)
	last = errOptions
	for range tries {
		q := newRequest(typ)
		fill(&q)
		if l.nonce != "" {
			q.sign(l.user, l.realm, l.nonce, l.key)
		}
		if _, err := s.client.Write(q.b); err != nil {
			return response{}, err
		}
		r, err := s.answer(q, buf)
		switch {
		case err != nil:
			last = err
		case r.typ == typ|success:
			return r, nil
		case (r.code == 401 || r.code == 438) && r.nonce != "":
			last = RefusedError{r.code}
			l.realm, l.nonce = r.realm, r.nonce
			l.key = longTermKey(l.user, l.realm, l.password)
		case r.code == taken:
			return r, errTaken
		default:
			return r, RefusedError{r.code}
		}
	}
	return response{}, last
}

func (s *session) answer(q request, buf []byte) (response, error) {
	if err := s.client.SetReadDeadline(time.Now().Add(tryTime)); err != nil {
		return response{}, err
	}
	for {
		n, err := s.client.Read(buf)
		if err != nil {
			return response{}, err
		}
		if r, ok := parseResponse(buf[:n], q); ok {
			return r, nil
		}
	}
}

// frame makes a ChannelData message of size bytes of payload.
func frame(size int) []byte {
	b := make([]byte, 4+size)
	binary.BigEndian.PutUint16(b, channel)
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	return b
}
