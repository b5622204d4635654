package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Server accepts streams for the endpoints of a process; a dialler names the role that it wants. Safe for concurrent use.
type Server struct {
	tls *tls.Config

	mu        sync.Mutex
	endpoints map[Role]*Endpoint
	limit     int64 // streams of all endpoints together

	open    atomic.Int64 // streams, those without introduction included
	shaking atomic.Int64 // TLS handshakes under way
}

// NewServer returns a server for endpoints, at most one per role (a later one replaces it). conf must hold ClientCAs and a
// certificate; clients without a certificate of those CAs are refused whatever conf.ClientAuth says.
func NewServer(conf *tls.Config, endpoints ...*Endpoint) *Server {
	s := &Server{tls: conf, endpoints: make(map[Role]*Endpoint)}
	for _, e := range endpoints {
		e.Serve(s)
	}
	return s
}

// Serve adds e to the endpoints of srv.
func (e *Endpoint) Serve(srv *Server) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.endpoints[e.info.Role] = e
	srv.limit = 0
	for _, x := range srv.endpoints {
		srv.limit += int64(x.opts.MaxStreams)
	}
}

// stopTime bounds how long Serve waits for streams to end before it cuts the connections.
const stopTime = 2 * flushTime

// Serve accepts streams from lis, which it closes, until ctx ends; then it flushes and ends them in order, and returns nil with no
// goroutine left. An error is a faulty configuration or a listener that broke.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	conf, err := checkTLS(s.tls, true)
	if err != nil {
		lis.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &acceptor{srv: s, ctx: ctx}
	creds := &tellingCreds{credentials.NewTLS(conf), s}
	g := grpc.NewServer(serverOptions(creds)...)
	g.RegisterService(&serviceDesc, a)
	var stopper sync.WaitGroup
	stopper.Go(func() {
		<-ctx.Done()
		cut := time.AfterFunc(stopTime, g.Stop)
		g.GracefulStop()
		cut.Stop()
	})
	err = g.Serve(lis)
	inOrder := ctx.Err() != nil
	cancel()
	stopper.Wait()
	a.workers.Wait()
	if inOrder || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

func serverOptions(creds credentials.TransportCredentials) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(8), // a dialler uses one per connection
		grpc.ConnectionTimeout(introTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTransport}),
		grpc.StaticStreamWindowSize(flowWindow),
		grpc.StaticConnWindowSize(flowWindow),
		grpc.WriteBufferSize(socketBuffer),
		grpc.ReadBufferSize(socketBuffer),
		grpc.WaitForHandlers(true),
	}
}

// acceptor is the service of one call of Serve.
type acceptor struct {
	srv     *Server
	ctx     context.Context // of Serve
	workers sync.WaitGroup  // goroutines of streams, which outlive their gRPC handler by a moment
}

// stream is the gRPC handler: it runs one stream from the introduction to its end.
func (a *acceptor) stream(st grpc.ServerStream) error {
	defer a.srv.open.Add(-1)
	full := a.srv.open.Add(1) > a.srv.total()
	if full {
		return status.Error(codes.ResourceExhausted, errFull.Error())
	}
	first, err := a.introduction(st)
	if err != nil {
		return err
	}
	theirs, err := parseIntro(first)
	ep := a.srv.endpoint(theirs.want)
	switch {
	case err != nil:
	case ep == nil:
		err = fmt.Errorf("%w: no %v here", errRole, theirs.want)
	default:
		defer ep.incoming.Add(-1)
		full := ep.incoming.Add(1) > int64(ep.opts.MaxStreams)
		mine := ep.intro(theirs.info.Role)
		if err = theirs.check(&mine, 0); err == nil && full {
			err = errFull
		}
		if err == nil {
			err = ep.admits(&theirs, "", verified(st.Context()))
		}
	}
	if err != nil {
		return a.refuse(st, ep, theirs, err)
	}
	mine := ep.intro(theirs.info.Role)
	if err = st.SendMsg(&frame{appendIntro(nil, &mine)}); err != nil {
		return err
	}
	s := newStream(ep, theirs, true)
	s.names = issuedFor(st)
	a.workers.Add(1)
	s.run(a.ctx.Done(), st, nil)
	go func() { s.workers.Wait(); a.workers.Done() }()
	if !errors.Is(s.failErr, ErrStopped) {
		return status.Error(codes.Aborted, s.failErr.Error())
	}
	return nil
}

// issuedFor returns the names in the dialler's certificate.
func issuedFor(st grpc.ServerStream) []string {
	p, ok := peer.FromContext(st.Context())
	if !ok {
		return nil
	}
	if auth, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(auth.State.PeerCertificates) > 0 {
		return auth.State.PeerCertificates[0].DNSNames
	}
	return nil
}

// verified returns how the certificate of who dialled was verified.
func verified(ctx context.Context) [][]*x509.Certificate {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			return info.State.VerifiedChains
		}
	}
	return nil
}

// introduction waits for the dialler's first message.
func (a *acceptor) introduction(st grpc.ServerStream) ([]byte, error) {
	got := make(chan error, 1)
	var in frame
	a.workers.Go(func() { got <- st.RecvMsg(&in) })
	limit := time.NewTimer(introTimeout)
	defer limit.Stop()
	select {
	case err := <-got:
		return in.data, err
	case <-limit.C:
		return nil, status.Error(codes.DeadlineExceeded, errIntroTimeout.Error())
	case <-a.ctx.Done():
		return nil, status.Error(codes.Unavailable, ErrStopped.Error())
	}
}

// refuse answers, logs and counts a refusal: at ep, or at every endpoint when nobody knows whom the dialler wants.
func (a *acceptor) refuse(st grpc.ServerStream, ep *Endpoint, theirs intro, err error) error {
	if p, ok := peer.FromContext(st.Context()); ok {
		a.srv.refused(p.Addr, ep, err)
	}
	if ep != nil {
		mine := ep.intro(theirs.info.Role)
		mine.refused = byte(refusalNumber(err))
		if sendErr := st.SendMsg(&frame{appendIntro(nil, &mine)}); sendErr != nil {
			return sendErr
		}
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}

// refused logs and counts a refusal at ep, or at every endpoint when ep is nil.
func (s *Server) refused(from net.Addr, ep *Endpoint, err error) {
	host, _, splitErr := net.SplitHostPort(from.String())
	if splitErr != nil {
		host = from.String()
	}
	for _, x := range s.all() {
		if ep == nil || x == ep {
			x.refused(host, err)
		}
	}
}

// maxHandshakes bounds the connections that have not shown a certificate yet, each of which costs a descriptor and a goroutine for
// up to introTimeout: anybody can make those. A dialler that is turned away comes back.
const maxHandshakes = 256

// tellingCreds bounds handshakes and reports those that fail, which gRPC keeps to itself: a client whose certificate was refused
// often sees no more than a broken pipe.
type tellingCreds struct {
	credentials.TransportCredentials
	srv *Server
}

func (c *tellingCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	defer c.srv.shaking.Add(-1)
	if c.srv.shaking.Add(1) > maxHandshakes {
		err := fmt.Errorf("%w: %d without a certificate", errFull, maxHandshakes)
		c.srv.refused(raw.RemoteAddr(), nil, err)
		return nil, nil, err
	}
	conn, auth, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) { // a probe that only connects is no news
		c.srv.refused(raw.RemoteAddr(), nil, err)
	}
	return conn, auth, err
}

func (c *tellingCreds) Clone() credentials.TransportCredentials {
	return &tellingCreds{c.TransportCredentials.Clone(), c.srv}
}

func (s *Server) endpoint(r Role) *Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoints[r]
}

func (s *Server) all() (list []*Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.endpoints {
		list = append(list, e)
	}
	return list
}

func (s *Server) total() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit
}
