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
	strangerLimit   = time.Minute // of one handshake
)

// strangers measures what messages of established sessions wait for while strangers storm the servers: they send message 1, take
// message 2, for which the server has computed three Diffie-Hellmans, and are gone. It costs them next to nothing, so that the CPU of
// the handshakes is the server's alone.
func (r *run) strangers(talk swarm.Pairs, quiet swarm.Histogram) error {
	hello, err := greeting()
	if err != nil {
		return err
	}
	var begun, refused, stopped atomic.Int64
	var crowd sync.WaitGroup
	errs := make(chan error, strangersAtOnce)
	for range strangersAtOnce {
		crowd.Go(func() {
			for stopped.Load() == 0 {
				answered, err := stranger(r.sys.servers[0].String(), hello)
				switch {
				case err != nil:
					errs <- err
					return
				case answered:
					begun.Add(1)
				default:
					refused.Add(1)
				}
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
	if n := refused.Load(); n > 0 {
		r.rep.Note(fmt.Sprintf("%d handshakes of strangers were refused without being computed", n))
	}
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

// stranger takes one handshake to message 2, or to a refusal, which costs the server nothing.
func stranger(addr string, hello []byte) (answered bool, err error) {
	nc, err := net.DialTimeout("tcp", addr, strangerLimit)
	if err != nil {
		return false, err
	}
	defer nc.Close()
	if err := nc.(*net.TCPConn).SetLinger(0); err != nil {
		return false, err
	}
	if err := nc.SetDeadline(time.Now().Add(strangerLimit)); err != nil {
		return false, err
	}
	if _, err := nc.Write(hello); err != nil {
		return false, err
	}
	var head [wire.LenSize]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return false, err
	}
	size, _ := wire.FrameLen(head[:])
	body := make([]byte, size)
	if _, err := io.ReadFull(nc, body); err != nil {
		return false, err
	}
	kind, err := wire.FrameKind(body)
	return kind != wire.KindRefused, err
}
