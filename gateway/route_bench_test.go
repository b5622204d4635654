package gateway

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// The clients of BenchmarkRoute run in a process of their own, so that the benchmark's CPU time is the gateway's.
const routeClientsEnv = "LINECARD_ROUTE_CLIENTS"

func TestMain(m *testing.M) {
	if job := os.Getenv(routeClientsEnv); job != "" {
		os.Exit(routeClients(job))
	}
	if os.Getenv(fakeEnv) != "" {
		os.Exit(fakeWorker())
	}
	os.Exit(m.Run())
}

const (
	routePairs = 64
	routeBatch = 8  // messages in a frame
	routeOpen  = 32 // unanswered per sender: the window
)

// BenchmarkRoute is a message of 64 bytes from one session of a gateway to another of the same, with ack and delivery ack: read, opened,
// decoded, given to a router that sends it straight back as a delivery, written. It reports the CPU time of the process, loops and
// links and that router, by message. 500,000 a core-second are 2 us.
func BenchmarkRoute(b *testing.B) {
	h := start(b, func(c *Config) {
		c.SendRate, c.SendBurst, c.Loops = 60000, 65535, 1
		c.HandshakeRate, c.HandshakeBurst = 1e6, 1e6
	})
	h.reflect()
	stop := h.keepTime()
	defer stop()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", routeClientsEnv, h.g.Addr(), b.N))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	said := bufio.NewScanner(out)
	wait := func(word string) {
		if !said.Scan() || said.Text() != word {
			b.Fatalf("the clients say %q, want %q", said.Text(), word)
		}
	}
	wait("ready")
	runtime.GC()
	b.ResetTimer()
	before := cpuTime()
	fmt.Fprintln(in, "go")
	wait("done")
	used := cpuTime() - before
	b.StopTimer()
	sent := (b.N/routePairs/routeBatch + 1) * routeBatch * routePairs
	b.ReportMetric(float64(used.Nanoseconds())/float64(sent), "cpu-ns/message")
	b.ReportMetric(float64(sent)/used.Seconds(), "messages/core-s")
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// reflect makes the fake router one that sends each message on to its recipient's session by itself, and acks it.
func (h *harness) reflect() {
	bind := h.router.auto
	type place struct {
		slot, gen uint32
		next      uint64
	}
	places := map[stanza.Account]*place{}
	var out stanza.MessageDown
	var raw []byte
	h.router.mu.Lock()
	defer h.router.mu.Unlock()
	h.router.auto = func(s *link.Stream, e *link.Envelope) bool {
		switch e.Kind {
		case link.KindBind:
			places[e.Account] = &place{slot: e.Slot, gen: e.Gen}
			return bind(s, e)
		case link.KindMessage:
			v, _, _ := stanza.Decode(e.Payload)
			up, err := stanza.ParseMessageUp(v)
			to := places[up.Account]
			if err != nil || to == nil {
				h.t.Errorf("message to nobody: %v", err)
				return true
			}
			to.next++
			out = stanza.MessageDown{ID: up.ID, From: e.Account, FromDevice: e.Device, SentAt: 1, Body: up.Body}
			raw = out.Append(raw[:0])
			_ = s.Send(&link.Envelope{Kind: link.KindAck, Group: stanza.DirGroup(0), Slot: e.Slot, Gen: e.Gen, ID: e.ID, Charge: e.Charge})
			_ = s.Send(&link.Envelope{
				Kind: link.KindDeliver, Group: stanza.DirGroup(0), Slot: to.slot, Gen: to.gen, Epoch: link.MakeFence(1, 1), ID: to.next, Payload: raw,
			})
			return true
		case link.KindNote, link.KindContact, link.KindUnbind:
			return true
		}
		return bind(s, e)
	}
	h.offline.mu.Lock()
	h.offline.auto = func(*link.Stream, *link.Envelope) bool { return true }
	h.offline.mu.Unlock()
}

// keepTime lets the harness's clock run.
func (h *harness) keepTime() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticks := time.NewTicker(10 * time.Millisecond)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
				h.clock.Advance(10 * time.Millisecond)
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// routeClients is the other process: pairs of which one sends and one receives.
func routeClients(job string) (exit int) {
	addr, count, _ := strings.Cut(job, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return 2
	}
	testing.Init()
	t := &routeFailure{}
	defer func() {
		if recover() != nil {
			exit = 1
		}
	}()
	rounds := n/routePairs/routeBatch + 1
	senders, receivers := make([]*raw, routePairs), make([]*raw, routePairs)
	for i := range senders {
		senders[i], receivers[i] = routeDial(t, addr, stanza.Account(2*i+1)), routeDial(t, addr, stanza.Account(2*i+2))
	}
	fmt.Println("ready")
	if _, err := fmt.Scanln(); err != nil && err.Error() != "expected newline" {
		return 1
	}
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() { routeSend(senders[i], stanza.Account(2*i+2), rounds) })
		wg.Go(func() { routeReceive(receivers[i], rounds*routeBatch) })
	}
	wg.Wait()
	fmt.Println("done")
	return 0
}

// routeFailure ends the clients at the first fault.
type routeFailure struct{ testing.TB }

func (routeFailure) Helper() {}
func (routeFailure) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}
func (f routeFailure) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

func routeDial(t testing.TB, addr string, account stanza.Account) *raw {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := newRaw(t, conn)
	c.preamble()
	b := stanza.Bind{Account: account, Device: 1}
	c.handshake(b.Append(nil))
	c.wantTag(stanza.TagBound)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Minute))
	return c
}

func routeSend(c *raw, to stanza.Account, rounds int) {
	text := string(make([]byte, 64))
	id, open := uint64(0), 0
	for range rounds {
		plain := []byte{}
		for range routeBatch {
			id++
			plain = append(plain, message(id, to, text)...)
		}
		c.send(plain)
		if open += routeBatch; open > routeOpen-routeBatch {
			open -= len(c.ids(routeBatch))
		}
	}
	for open > 0 {
		open -= len(c.ids(1))
	}
}

func routeReceive(c *raw, n int) {
	for got := 0; got < n; {
		count := uint32(0)
		for ok := true; ok; ok = len(c.pending) > 0 {
			c.wantTag(stanza.TagMessage)
			count++
		}
		got += int(count)
		ack := stanza.DeliveryAck{Count: count}
		c.send(ack.Append(nil))
	}
}
