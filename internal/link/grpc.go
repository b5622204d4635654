package link

import (
	"crypto/tls"
	"errors"
	"fmt"
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
