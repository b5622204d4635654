package link

import (
	"context"
	"crypto/tls"
	"net"
)

// Server accepts streams for the endpoints of a process.
type Server struct{}

// NewServer returns a server for endpoints of different roles.
func NewServer(conf *tls.Config, endpoints ...*Endpoint) *Server { return &Server{} }

// Serve adds e to the endpoints of srv.
func (e *Endpoint) Serve(srv *Server) {}

// Serve accepts streams from lis until ctx ends.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	panic("link: Serve is not there yet")
}
