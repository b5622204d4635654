package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// Times between attempts to connect.
const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
	// steady is how long a stream must have been up for the next attempt to start over at backoffMin.
	steady = 5 * time.Second
)

// backoff returns how long to wait before attempt n (from 1): doubling, and uniform in its upper half so that peers which lost the
// same server do not come back together. r is in [0, 1).
func backoff(n int, r float64) time.Duration {
	d := backoffMax
	if n < 7 {
		d = min(backoffMin<<(n-1), backoffMax)
	}
	return d/2 + time.Duration(r*float64(d/2))
}

// Dial keeps one stream to the endpoint of that role at addr (host:port) up and blocks until ctx ends; run it on a goroutine of its
// own. Every failure leads to another attempt after 100 ms to 5 s, with jitter; each reason is logged once. conf must
// hold RootCAs and a certificate; the server's name is conf.ServerName or the host of addr. When ctx ends, what is pending is
// flushed for at most a second, Down is called, and Dial returns with no goroutine left.
func (e *Endpoint) Dial(ctx context.Context, addr string, role Role, conf *tls.Config) {
	conf, err := checkTLS(conf, false)
	if err != nil {
		e.log.Error("cannot dial", "addr", addr, "err", err)
		<-ctx.Done()
		return
	}
	d := dialer{ep: e, addr: addr, role: role, creds: credentials.NewTLS(conf)}
	for attempt := 1; ctx.Err() == nil; attempt++ {
		began := time.Now()
		s, err := d.once(ctx)
		if s != nil && time.Since(began) >= steady {
			attempt = 1
		}
		if ctx.Err() != nil {
			return
		}
		d.note(s != nil, err)
		sleep(ctx, backoff(attempt, e.jitter()))
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

type dialer struct {
	ep    *Endpoint
	addr  string
	role  Role
	creds credentials.TransportCredentials

	logged []string  // reasons that were logged since the stream was up
	since  time.Time // when logged was empty
}

// A reason is logged once, and again after logAgain; at most maxReasons of them.
const (
	maxReasons = 4
	logAgain   = 10 * time.Minute
)

// note counts a failed attempt and logs it unless it is a repetition.
func (d *dialer) note(wasUp bool, err error) {
	if wasUp || time.Since(d.since) > logAgain {
		d.logged, d.since = d.logged[:0], time.Now()
	}
	if wasUp {
		return // Down had the reason
	}
	d.ep.metrics.refused(err)
	if d.ep.opts.Failed != nil {
		d.ep.opts.Failed(d.addr, plain(err))
	}
	if text := strings.Map(noDigits, err.Error()); len(d.logged) < maxReasons && !slices.Contains(d.logged, text) {
		d.logged = append(d.logged, text)
		d.ep.log.Warn("cannot connect", "addr", d.addr, "peer", d.role.String(), "err", err)
	}
}

// plain takes off what gRPC puts around the reason.
func plain(err error) error {
	if s, ok := status.FromError(err); ok {
		return errors.New(s.Message())
	}
	return err
}

// once connects and runs one stream to its end. The stream is nil when it was never up; err says why then.
func (d *dialer) once(ctx context.Context) (*Stream, error) {
	cc, err := grpc.NewClient("passthrough:///"+d.addr, d.options()...)
	if err != nil {
		return nil, err
	}
	defer cc.Close()
	// Not a child of ctx: the end of ctx must leave time to flush.
	sctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var st grpc.ClientStream
	var theirs intro
	err = limited(ctx, cancel, func() (err error) {
		st, theirs, err = d.meet(sctx, cc)
		return err
	})
	if err != nil {
		return nil, err
	}
	s := newStream(d.ep, theirs, false)
	s.dialled = dialKey{d.addr, d.role}
	s.run(ctx.Done(), st, st.CloseSend)
	cancel(nil)
	s.workers.Wait()
	return s, nil
}

// limited calls f, and meanwhile cancels at the end of ctx or after introTimeout. It returns why it has cancelled, or will in a moment
// (what f did with that context is lost then, even if f returned nil), or else f's error.
func limited(ctx context.Context, cancel context.CancelCauseFunc, f func() error) error {
	early := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	late := time.AfterFunc(introTimeout, func() { cancel(errIntroTimeout) })
	err := f()
	inTime, wanted := late.Stop(), early()
	switch {
	case !wanted:
		return ctx.Err()
	case !inTime:
		return errIntroTimeout
	}
	return err
}

var errIntroTimeout = errors.New("no introduction in time")

// meet opens the gRPC stream and exchanges introductions.
func (d *dialer) meet(ctx context.Context, cc *grpc.ClientConn) (grpc.ClientStream, intro, error) {
	st, err := cc.NewStream(ctx, &clientDesc, streamMethod, grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return nil, intro{}, err
	}
	mine := d.ep.intro(d.role)
	// A failed send has no reason of its own: the answer below does.
	_ = st.SendMsg(&frame{appendIntro(nil, &mine)})
	var in frame
	if err := st.RecvMsg(&in); err != nil {
		if p := status.Convert(err); p.Code() == codes.FailedPrecondition || p.Code() == codes.ResourceExhausted {
			err = fmt.Errorf("%w: %s", errPeer, p.Message())
		}
		return nil, intro{}, err
	}
	theirs, err := parseIntro(in.data)
	if err == nil {
		err = theirs.check(&mine, d.role)
	}
	if err == nil {
		err = d.ep.admits(&theirs, d.addr, nil)
	}
	return st, theirs, err
}

// noDigits makes texts the same that differ in a port.
func noDigits(r rune) rune {
	if r >= '0' && r <= '9' {
		return -1
	}
	return r
}

func (d *dialer) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(d.creds),
		// Attempts are paced by Dial; gRPC makes one connection per attempt.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: introTimeout}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableHealthCheck(),
		grpc.WithDisableRetry(), // a retry buffer would keep the batches
		grpc.WithIdleTimeout(0),
		grpc.WithStaticStreamWindowSize(flowWindow),
		grpc.WithStaticConnWindowSize(flowWindow),
		grpc.WithWriteBufferSize(socketBuffer),
		grpc.WithReadBufferSize(socketBuffer),
	}
}
