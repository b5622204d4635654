package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"linecard.example/internal/wire"
)

// writeTimeout bounds one write: a server that does not read for so long is gone.
const writeTimeout = 30 * time.Second

var errSpent = errors.New("the session has used its frames")

// frameConn reads and writes frames of one connection. One goroutine may read while another writes.
type frameConn struct {
	nc   net.Conn
	keys wire.Keys
	done <-chan struct{} // closed when the client ends: nothing is written for long from then on

	// reader
	in     *bufio.Reader
	body   []byte
	opener *wire.Sealer
	opened uint64

	// writer
	sealer *wire.Sealer
	sealed uint64
	out    []byte
}

func newFrameConn(nc net.Conn) *frameConn {
	return &frameConn{nc: nc, in: bufio.NewReaderSize(nc, 8<<10), opener: wire.NewSealer(), sealer: wire.NewSealer()}
}

// readBody reads one frame's body of at most limit bytes; valid until the next call.
func (f *frameConn) readBody(limit int) ([]byte, error) {
	var head [wire.LenSize]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return nil, err
	}
	n, _ := wire.FrameLen(head[:])
	if n > limit {
		return nil, fmt.Errorf("a frame of %d bytes, at most %d", n, limit)
	}
	if cap(f.body) < n {
		f.body = make([]byte, n)
	}
	f.body = f.body[:n]
	if _, err := io.ReadFull(f.in, f.body); err != nil {
		return nil, err
	}
	return f.body, nil
}

// read reads and opens one frame; the plaintext is valid until the next call.
func (f *frameConn) read() ([]byte, error) {
	body, err := f.readBody(wire.MaxBody)
	if err != nil {
		return nil, err
	}
	if f.opened >= wire.MaxFrames {
		return nil, errSpent
	}
	if f.opened == 0 { // instead of its first sealed frame a server may refuse message 3
		if err := refusedHint(body); err != nil {
			return nil, err
		}
	}
	plain, err := f.opener.Open(body[:0], &f.keys.RX, f.opened, body)
	if err != nil {
		return nil, err
	}
	f.opened++
	return plain, nil
}

// write seals and writes one frame.
func (f *frameConn) write(plain []byte, now time.Time) error {
	if f.sealed >= wire.MaxFrames {
		return errSpent
	}
	f.out = f.sealer.AppendSealedFrame(f.out[:0], &f.keys.TX, f.sealed, plain)
	f.sealed++
	_ = f.nc.SetWriteDeadline(now.Add(writeTimeout))
	select {
	case <-f.done: // behind the line above, which may have undone what serve set at the end
		_ = f.nc.SetWriteDeadline(now.Add(byeWrite))
	default:
	}
	_, err := f.nc.Write(f.out)
	return err
}
