package gateway

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	reasons "linecard.example/internal/metrics"
)

// File descriptors that a worker process is started with.
const (
	seatFD  = 3 // stream socket to the supervisor: Boot, then orders this way; the last metrics the other way
	adminFD = 4 // listening socket for the admin pages of this worker, which only the supervisor asks
)

// Boot is what a supervisor tells a worker first.
type Boot struct {
	Slot    int      `json:"slot"`    // from 1: what operators know the worker by
	Worker  uint16   `json:"worker"`  // its number on links
	Workers int      `json:"workers"` // that share the machine
	Listen  []string `json:"listen"`  // for Deps.Listen
	// Handover is the path of the socket on which this worker hands its sessions over, Takeover that of the one whose it takes; "": none.
	Handover string `json:"handover"`
	Takeover string `json:"takeover"`

	Config []byte `json:"config"` // text of the configuration file, which all workers of one round share
}

// order is what a supervisor sends later.
type order struct {
	Leave bool `json:"leave"` // siblings take over: drain and end
	End   bool `json:"end"`   // all drain and end
}

// Seat is a worker process's end of what ties it to its supervisor.
type Seat struct {
	Boot
	Admin net.Listener

	conn net.Conn
	in   *json.Decoder
}

// TakeSeat returns the seat of this process. It fails in a process that no supervisor has started.
func TakeSeat() (*Seat, error) {
	conn, err := inherited(seatFD, "supervisor", net.FileConn)
	if err != nil {
		return nil, fmt.Errorf("worker: no supervisor: %w", err)
	}
	ln, err := inherited(adminFD, "admin", net.FileListener)
	if err != nil {
		return nil, fmt.Errorf("worker: no admin listener: %w", err)
	}
	s := &Seat{Admin: ln, conn: conn, in: json.NewDecoder(bufio.NewReader(conn))}
	if err := s.in.Decode(&s.Boot); err != nil {
		return nil, fmt.Errorf("worker: no word from the supervisor: %w", err)
	}
	return s, nil
}

// inherited makes a socket of a file descriptor that the parent left, and closes the descriptor.
func inherited[T any](fd uintptr, name string, from func(*os.File) (T, error)) (T, error) {
	f := os.NewFile(fd, name)
	defer f.Close()
	return from(f)
}

// Watch calls leave or end when the supervisor wants this worker to, and returns nil after Report. An error is the end of the supervisor:
// the worker must end at once then, for nobody restarts it, and it would keep the port from the next supervisor.
func (s *Seat) Watch(leave, end func()) error {
	for {
		var o order
		switch err := s.in.Decode(&o); {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("worker: the supervisor is gone: %w", err)
		}
		if o.Leave {
			leave()
		}
		if o.End {
			end()
		}
	}
}

// Report sends the last metrics of a worker that ends in order, so that the totals lack nothing of it, and gives the seat up.
func (s *Seat) Report(from prometheus.Gatherer) error {
	families, err := from.Gather()
	return errors.Join(err, reasons.Write(s.conn, families), s.conn.Close())
}
