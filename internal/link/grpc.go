package link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// The service: one bidirectional stream of messages that gRPC does not look into. Written by hand, because generated code would
// bring protobuf messages around bytes that need none.
const (
	serviceName  = "linecard.link.v1.Link"
	streamName   = "Stream"
	streamMethod = "/" + serviceName + "/" + streamName
)

var (
	clientDesc  = grpc.StreamDesc{StreamName: streamName, ClientStreams: true, ServerStreams: true}
	serviceDesc = grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*streamService)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName:    streamName,
			ClientStreams: true,
			ServerStreams: true,
			Handler:       func(srv any, st grpc.ServerStream) error { return srv.(streamService).stream(st) },
		}},
	}
)

type streamService interface{ stream(grpc.ServerStream) error }

// Sizes of the HTTP/2 layer. Credits bound what is on the way; these windows only keep the pipe full and bound what waits in
// gRPC's buffers for the reader.
const (
	flowWindow    = 1 << 20
	socketBuffer  = 64 << 10
	maxMessage    = maxBatchBytes + maxHeader + 1<<10
	introTimeout  = 5 * time.Second
	idleTransport = 30 * time.Second
)

// frame is a message of bytes: an introduction, or anything received.
type frame struct{ data []byte }

// rawCodec passes the bytes of a batch or frame through. It is forced per call and per server instead of registered, so that
// nothing global changes for other users of gRPC in the process.
type rawCodec struct{}

// Name is unique, so that a peer which speaks something else is refused by its content type.
func (rawCodec) Name() string { return "linecard-batch" }

// Marshal lends a batch's bytes to gRPC, which gives them back (batch.Put) when they are written.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *batch:
		return mem.BufferSlice{mem.NewBuffer(&m.buf, m)}, nil
	case *frame:
		return mem.BufferSlice{mem.SliceBuffer(m.data)}, nil
	}
	return nil, errors.New("link: not a message")
}

// Unmarshal copies the message into a slice of its own, of exactly its size: its payloads may be kept.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return errors.New("link: not a frame")
	}
	f.data = data.Materialize()
	return nil
}

// Get is there for mem.BufferPool only; gRPC takes buffers for batches from nowhere.
func (b *batch) Get(n int) *[]byte { p := make([]byte, n); return &p }

// Put takes the batch back once gRPC has written it.
func (b *batch) Put(*[]byte) { b.box.recycle(b) }

// messages is what gRPC's two kinds of streams have in common; one goroutine sends, one receives.
type messages interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// errSilent ends a stream whose peer gave no sign of life for three pulses.
var errSilent = errors.New("link: peer is silent")

// run takes s from Up to Down over m. It returns when the stream has failed, the peer has ended it, or stop is closed; then it
// flushes what is pending first and calls closeSend. Its two goroutines are in s.workers; they end when the caller ends m.
func (s *Stream) run(stop <-chan struct{}, m messages, closeSend func() error) {
	s.up()
	sent, read := make(chan struct{}), make(chan struct{})
	s.workers.Go(func() { defer close(sent); s.sendLoop(func(b *batch) error { return s.transmit(m, b) }) })
	s.workers.Go(func() { defer close(read); s.readLoop(m) })
	inOrder := s.watch(stop)
	if inOrder {
		s.finish(sent, read, closeSend)
	}
	s.fail(ErrStopped)
	s.down()
}

// watch waits for the end and keeps the pulse meanwhile. It reports whether there may be something left to flush.
func (s *Stream) watch(stop <-chan struct{}) (inOrder bool) {
	pulse := time.NewTicker(s.ep.opts.Pulse)
	defer pulse.Stop()
	for silent := 0; ; {
		select {
		case <-stop:
			return true
		case <-s.failed:
			return s.failErr == ErrStopped
		case <-pulse.C:
			silent++
			if s.heard.Swap(false) {
				silent = 0
			}
			if silent == maxSilent {
				s.fail(errSilent)
			}
			s.out.pulse()
		}
	}
}

// maxSilent is how many pulses without a sign of life end a stream.
const maxSilent = 3

// finish lets both directions end in order, within flushTime.
func (s *Stream) finish(sent, read <-chan struct{}, closeSend func() error) {
	limit := time.NewTimer(flushTime)
	defer limit.Stop()
	s.out.drain()
	select {
	case <-sent:
	case <-limit.C:
		return
	}
	if closeSend() != nil {
		return
	}
	select {
	case <-read:
	case <-limit.C:
	}
}

// transmit sends one batch. io.EOF says only that the stream has ended; why, the reader gets to know.
func (s *Stream) transmit(m messages, b *batch) error {
	err := m.SendMsg(b)
	if err == io.EOF {
		<-s.failed
	}
	return err
}

// readLoop is the reader goroutine.
func (s *Stream) readLoop(m messages) {
	var in frame
	for {
		err := m.RecvMsg(&in)
		if err == io.EOF {
			err = ErrStopped
		}
		if err == nil {
			s.heard.Store(true)
			err = s.receive(in.data)
		}
		if err != nil {
			s.fail(err)
			return
		}
		in.data = nil
	}
}

// checkTLS makes sure that conf is mutual and not older than TLS 1.3, and returns a copy to use.
func checkTLS(conf *tls.Config, server bool) (*tls.Config, error) {
	switch {
	case conf == nil:
		return nil, errors.New("link: no TLS configuration")
	case server && conf.ClientCAs == nil:
		return nil, errors.New("link: TLS configuration without client CAs")
	case !server && conf.RootCAs == nil:
		return nil, errors.New("link: TLS configuration without root CAs")
	case len(conf.Certificates) == 0 && conf.GetCertificate == nil && conf.GetClientCertificate == nil:
		return nil, fmt.Errorf("link: TLS configuration without a certificate")
	}
	conf = conf.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS13)
	if server {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}
