package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"linecard.example/internal/stanza"
)

// crediting is a Handler that only gives credit back.
type crediting struct{}

func (crediting) Up(*Stream) {}
func (crediting) Receive(s *Stream, batch []Envelope) {
	for i := range batch {
		s.Done(batch[i].Group, batch[i].Size())
	}
}
func (crediting) Down(*Stream, error) {}

// bare returns two ends without goroutines; the test is their transport.
func bare(t *testing.T) (a, b *Stream) {
	t.Helper()
	ea, eb := NewEndpoint(info(RoleGateway), crediting{}, Options{}), NewEndpoint(info(RoleRouter), crediting{}, Options{})
	p, err := meet(ea, eb)
	if err != nil {
		t.Fatal(err)
	}
	p.a.up()
	p.b.up()
	return p.a, p.b
}

// TestStreamAllocates: Send, taking a batch, receiving it and crediting it back, grants included, allocate nothing.
func TestStreamAllocates(t *testing.T) {
	a, b := bare(t)
	e := message(1)
	var wire []byte
	move := func(from, to *Stream) {
		for from.out.head < len(from.out.pending) {
			x := from.out.take()
			wire = append(wire[:0], x.buf...)
			from.out.recycle(x)
			if err := to.receive(wire); err != nil {
				t.Fatal(err)
			}
		}
	}
	round := func() {
		for range 500 { // 109 kB, so that a grant comes in about every 20th round
			if err := a.Send(e); err != nil {
				t.Fatal(err)
			}
		}
		move(a, b)
		move(b, a)
	}
	round()
	if n := testing.AllocsPerRun(200, round); n != 0 {
		t.Errorf("%v allocations in 500 envelopes", n)
	}
}

// TestBatchBounds: no batch passes 64 envelopes or 256 KiB, whatever the sizes.
func TestBatchBounds(t *testing.T) {
	a, _ := bare(t)
	sent := 0
	for i := 0; ; i++ {
		e := &Envelope{Kind: KindDeliver, Payload: make([]byte, (i*7919)%MaxPayload)}
		if a.Send(e) != nil {
			break
		}
		sent++
	}
	for range 200 {
		if a.Send(&Envelope{Kind: KindAck, Group: stanza.DirGroup(1), ID: 1}) == nil {
			sent++
		}
	}
	for a.out.head < len(a.out.pending) {
		b := a.out.take()
		if b.n > maxBatch || len(b.buf) > maxBatchBytes || b.n == 0 {
			t.Errorf("batch of %d envelopes, %d bytes", b.n, len(b.buf))
		}
		sent -= b.n
		a.out.recycle(b)
	}
	if sent != 0 || a.out.spared > keepSpare {
		t.Errorf("%d envelopes missing, %d bytes spared", sent, a.out.spared)
	}
}

// TestPendingDropsCount: what a broken stream had pending is counted as link_down.
func TestPendingDropsCount(t *testing.T) {
	a, _ := bare(t)
	for range 100 {
		if err := a.Send(message(1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.out.close(); n != 100 {
		t.Errorf("%d dropped", n)
	}
	if err := a.receive(nil); err != nil {
		t.Errorf("a sign of life: %v", err)
	}
	a.fail(errSilent)
	a.down()
	if err := a.receive(nil); !errors.Is(err, ErrDown) {
		t.Errorf("receive after Down: %v", err)
	}
}

func TestIntroRefuses(t *testing.T) {
	in := intro{info: info(RoleRouter), want: RoleOffline, window: 5, kinds: KindLeave, founded: 300}
	good := appendIntro(nil, &in)
	older, old := len(good)-4, len(good)-1 // end behind the name, behind the foundation
	for n := range good {
		if _, err := parseIntro(good[:n]); err == nil && n != older && n != old {
			t.Errorf("cut at %d was accepted", n)
		}
	}
	if got, err := parseIntro(good[:older]); err != nil || got.kinds != kindsOld || got.founded != 0 || got.info != in.info {
		t.Errorf("an older peer: %+v, %v", got, err)
	}
	newer := bytes.Clone(good)
	newer[3]++
	if _, err := parseIntro(newer); !errors.Is(err, errVersion) {
		t.Errorf("another version: %v", err)
	}
	if got, err := parseIntro(append(good, 1, 2)); err != nil || got != in {
		t.Errorf("longer: %+v, %v", got, err)
	}
}

// TestGRPCVersion: a dialler of another protocol version is told so, and the server logs it once.
func TestGRPCVersion(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	var log lines
	ep := NewEndpoint(info(RoleRouter), newRecorder(t), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), ep)
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(ca.config(t))))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	in := intro{info: info(RoleGateway), want: RoleRouter, window: 5}
	newer := appendIntro(nil, &in)
	newer[3]++
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		st, err := cc.NewStream(ctx, &clientDesc, streamMethod, grpc.ForceCodecV2(rawCodec{}))
		if err != nil {
			t.Fatal(err)
		}
		_ = st.SendMsg(&frame{newer})
		err = st.RecvMsg(&frame{})
		if p := status.Convert(err); p.Code() != codes.FailedPrecondition || p.Message() != "protocol version differs: 1 here, 2 there" {
			t.Errorf("answer: %v", err)
		}
		cancel()
	}
	log.await(t, "protocol version differs")
	if n := bytes.Count([]byte(log.String()), []byte("refused")); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestReasonOf(t *testing.T) {
	for err, want := range map[error]stanza.Reason{
		ErrNoCredit: stanza.ReasonNoCredit, fmt.Errorf("attach: %w", ErrDown): stanza.ReasonLinkDown, ErrTooLarge: stanza.ReasonInternal,
	} {
		if got := ReasonOf(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
