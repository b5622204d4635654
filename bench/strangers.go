package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
	"linecard.example/internal/wire"
)

const (
	strangersAtOnce = 64
	strangersFor    = 6 * time.Second
)

// strangers measures what messages of established sessions wait for while strangers storm the servers: they send message 1, take
// message 2, for which the server has computed three Diffie-Hellmans, and are gone. It costs them next to nothing, so that the CPU of
// the handshakes is the server's alone.
func (r *run) strangers(talk swarm.Pairs, quiet swarm.Histogram) error {
	hello, err := greeting()
	if err != nil {
		return err
	}
	var begun, stopped atomic.Int64
	var crowd sync.WaitGroup
	errs := make(chan error, strangersAtOnce)
	for range strangersAtOnce {
		crowd.Go(func() {
			for stopped.Load() == 0 {
				if err := stranger(r.sys.servers[0].String(), hello); err != nil {
					errs <- err
					return
				}
				begun.Add(1)
			}
		})
	}
	talk.Warmup, talk.Duration = time.Second, strangersFor
	before, from := begun.Load(), time.Now()
	l, err := r.load("talk among strangers", talk)
	rate := float64(begun.Load()-before) / time.Since(from).Seconds()
	stopped.Store(1)
	crowd.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	if err != nil {
		return err
	}
	r.add(report.Figure{Key: "strangers_rate", Name: "handshakes begun by strangers per second", Unit: "/s", Value: rate})
	r.beside("strangers", "among strangers", quiet, l.traffic.Ack)
	return nil
}

// greeting is everything that a stranger sends.
func greeting() ([]byte, error) {
	key, err := wire.GenerateKeypair(nil)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return wire.NewInitiator(key, nil).AppendHello(append([]byte(nil), wire.Preamble[:]...), wire.Preamble[:])
}

// stranger takes one handshake to message 2.
func stranger(addr string, hello []byte) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := nc.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := nc.Write(hello); err != nil {
		return err
	}
	var head [wire.LenSize]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return err
	}
	size, _ := wire.FrameLen(head[:])
	_, err = io.CopyN(io.Discard, nc, int64(size))
	return err
}
