package turnd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"linecard.example/internal/certfile"
)

// listen opens all listeners.
func (s *Server) listen() error {
	var err error
	if s.cfg.TLSCert != "" {
		told := certfile.Options{Logger: s.log, Expiry: s.count.certificate, Failures: s.count.reloads}
		if s.cert, err = certfile.Open(s.cfg.TLSCert, s.cfg.TLSKey, told); err != nil {
			return err
		}
	}
	var sock *socket
	sock, err = openSocket(s.count, "udp4", netip.AddrPortFrom(s.policy.relay, 0).String(), false, 0)
	if err != nil { // no allocation could be made
		return fmt.Errorf("relay address: %w", err)
	}
	sock.close()
	for _, l := range []struct {
		addrs []string
		open  func(addr string) error
	}{{s.cfg.UDP, s.listenUDP}, {s.cfg.TCP, s.listenTCP}, {s.cfg.TLS, s.listenTLS}, {s.cfg.DTLS, s.listenDTLS}} {
		for _, addr := range l.addrs {
			if err := l.open(addr); err != nil {
				return fmt.Errorf("relay listener %s: %w", addr, err)
			}
		}
	}
	return nil
}

func (s *Server) listenTCP(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.addListener("tcp", ln, func(c net.Conn) (net.Conn, error) { return c, nil })
	return nil
}

func (s *Server) listenTLS(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	cfg := s.cert.Config()
	s.addListener("tls", ln, func(c net.Conn) (net.Conn, error) {
		t := tls.Server(c, cfg)
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.HandshakeTimeout.D())
		defer cancel()
		return t, t.HandshakeContext(ctx)
	})
	return nil
}

// addListener adds a listener of connections; shake does their handshake, in time.
func (s *Server) addListener(transport string, ln net.Listener, shake func(net.Conn) (net.Conn, error)) {
	f := s.addFront(transport, ln.Addr(), true)
	s.closers = append(s.closers, func() { _ = ln.Close() })
	s.loops = append(s.loops, func() error { s.accept(f, ln, shake, true); return nil })
}

// maxPause is the longest pause of a listener that cannot accept.
const maxPause = time.Second

// accept takes connections until the listener is closed. An error ends nothing else: those there are, are one client's that was gone again, or
// the process has no file descriptor left, and has some later.
func (s *Server) accept(f *front, ln net.Listener, shake func(net.Conn) (net.Conn, error), framed bool) {
	pause := time.Millisecond
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = time.Millisecond
			s.admitConn(f, c, shake, framed)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.count.ended(AcceptFailed)
			s.lines.WriteWith(slog.LevelWarn, "connections cannot be accepted", AcceptFailed, slog.Any("error", err))
			select {
			case <-s.quit:
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, maxPause)
		}
	}
}

// admitConn serves a connection on a goroutine of its own, or closes it.
func (s *Server) admitConn(f *front, c net.Conn, shake func(net.Conn) (net.Conn, error), framed bool) {
	client, err := netip.ParseAddrPort(c.RemoteAddr().String())
	client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	if err != nil || !s.doors.enter(client.Addr()) {
		s.count.ended(TooManyConnections)
		_ = c.Close()
		return
	}
	done := s.track(c) // here, so that Run has all of them when the listeners are gone
	go func() {
		defer done()
		defer s.doors.leave(client.Addr())
		s.count.ended(s.converse(f, c, client, shake, framed))
	}()
}

// converse does the handshake and serves the connection to its end.
func (s *Server) converse(f *front, c net.Conn, client netip.AddrPort, shake func(net.Conn) (net.Conn, error), framed bool) Reason {
	if !s.doors.begin() {
		_ = c.Close()
		return TooManyConnections
	}
	if f.transport != "tcp" && s.sources.request(client.Addr(), 0, 0, true) != OK { // a handshake is the most that a stranger can ask for
		s.doors.done()
		_ = c.Close()
		return TooFast
	}
	safe, err := shake(c)
	s.doors.done()
	if err != nil {
		_ = c.Close()
		return Handshake
	}
	return (&connection{front: f, conn: safe, client: client, framed: framed}).serve()
}

// track has close end a connection; what it returns is for when it has ended.
func (s *Server) track(c net.Conn) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		_ = c.Close() // its reader learns it
	}
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	return func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		s.serving.Done()
	}
}
