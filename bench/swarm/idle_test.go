package swarm

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
)

// TestNoGarbage: a ping, a pong, a message sent and a message received allocate nothing once buffers have grown.
func TestNoGarbage(t *testing.T) {
	l, tr := bare(t, Pairs{InFlight: 1})
	tr.quota, tr.flows[0].quota, tr.flows[0].released = 1<<40, 1<<40, 1<<40
	var pair [2][2]int
	for k := range pair {
		var err error
		if pair[k], err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0); err != nil {
			t.Fatal(err)
		}
		l.slots.At(uint32(k)).fd = int32(pair[k][0])
		l.own(pair[k][0], uint32(k))
		defer unix.Close(pair[k][0])
		defer unix.Close(pair[k][1])
	}
	server := fakeServer{l: l, other: [2]int{pair[0][1], pair[1][1]}}
	for name, round := range map[string]func(){"ping": server.ping, "message": server.message} {
		round()
		if n := testing.AllocsPerRun(200, round); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if tr.result.Acked != tr.result.Delivered || tr.result.Acked < 200 || l.count.Pongs < 200 || len(l.count.Lost) != 0 {
		t.Errorf("%+v, %+v", tr.result, l.count)
	}
}

// fakeServer answers the two sessions of bare.
type fakeServer struct {
	l      *loop
	other  [2]int
	in     [4096]byte
	plain  []byte
	frame  []byte
	id     uint64
	number uint64
	body   []byte
}

// say gives a session a sealed frame, and lets it read.
func (f *fakeServer) say(n uint32) {
	s := f.l.slots.At(n)
	f.frame = f.l.sealer.AppendSealedFrame(f.frame[:0], &s.rx, uint64(s.opened), f.plain)
	_, _ = unix.Write(f.other[n], f.frame)
	f.l.read(n, s)
	f.l.flush()
	_, _ = unix.Read(f.other[n], f.in[:])
}

func (f *fakeServer) ping() {
	s := f.l.slots.At(0)
	s.set(pingNow)
	f.l.markDirty(0, s)
	f.l.flush()
	_, _ = unix.Read(f.other[0], f.in[:])
	f.plain = stanza.Pong{}.Append(append(f.plain[:0], 0))
	f.say(0)
}

// message lets the sender say one, delivers it, and acks it, which makes the sender say the next.
func (f *fakeServer) message() {
	sender := f.l.slots.At(0)
	f.l.markDirty(0, sender)
	f.l.flush()
	_, _ = unix.Read(f.other[0], f.in[:])
	p := payload{kind: kindPairs, run: f.l.traffic.run, number: f.number, time: f.l.shared()}
	f.body = appendPayload(f.body[:0], &p, 40)
	f.number++
	m := stanza.MessageDown{ID: 3000 + f.number, From: 1, FromDevice: 1, SentAt: 1, Body: f.body}
	f.plain = m.Append(append(f.plain[:0], 0))
	f.say(1)
	f.id++
	var ids [1]uint64
	ids[0] = f.id
	var packed [10]byte
	a := stanza.Ack{IDs: stanza.AppendPacked(packed[:0], ids[:])}
	f.plain = a.Append(append(f.plain[:0], 0))
	f.say(0)
}

// TestUnfinishedFrames: a frame that comes in pieces is kept just until it is whole.
func TestUnfinishedFrames(t *testing.T) {
	l, _ := bare(t, Pairs{})
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	s := l.slots.At(1)
	s.fd = int32(pair[0])
	plain := bytes.Repeat(stanza.Pong{}.Append(nil), 20)
	frame := l.sealer.AppendSealedFrame(nil, &s.rx, 0, append([]byte{0}, plain...))
	frame = l.sealer.AppendSealedFrame(frame, &s.rx, 1, append([]byte{0}, plain...))
	for k := range frame {
		_, _ = unix.Write(pair[1], frame[k:k+1])
		l.read(1, s)
	}
	if l.count.Pongs != 40 || len(l.partial) != 0 {
		t.Errorf("%d pongs of 40, %d pieces kept", l.count.Pongs, len(l.partial))
	}
}
