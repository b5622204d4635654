package testkit

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
)

// What a client that never reads may hold in all processes of the server together, and what is sent to each.
const (
	slowHeld     = 64 << 10
	slowMessages = 96
	slowCipher   = 4 << 10

	// databaseBytes bounds what the databases hold of what is written to them, whoever it is for: two memtables of 64 MiB for each of four.
	databaseBytes = 512 << 20
	slowCost      = 1.2 // of what messages of others cost without slow clients beside them
)

// TestSlowConsumers has clients that never read, on connections as slow ones have them, sent three windows each. Counted is what the
// processes hold: the living heap, which is for each client, and all of their own memory, in which are the databases' buffers, garbage, and what
// the clients' sessions take anyhow. The kernel's socket buffers are not: 80 KB each with the kernel's defaults. Nothing is lost by it: one
// that reads at last gets everything, in turn.
func TestSlowConsumers(t *testing.T) {
	n, long := 500, os.Getenv("LINECARD_LONG") != ""
	if long {
		n = 5000
	}
	s := Start(t, Apart, Settings{
		Gateway: crowd + "ack_timeout = \"3m\"\n", Router: "stranger_rate = 60000.0\nstranger_burst = 1000000\n", Offline: "unresponsive = \"1h\"\n",
		Log: `level = "warn"`,
	})
	others := s.NewCrowd(CrowdOptions{Sessions: 100})
	alone := others.cost(s)
	before, own := s.living(), s.own()
	slow := park(t, s, n, &slowDialer)
	stuff(t, s, slow)
	var held, total int64
	bound := int64(databaseBytes + n*slowHeld)
	for end := time.Now().Add(waitLimit); ; time.Sleep(time.Second) { // what the burst left is given back when all is quiet
		held, total = (s.living()-before)/int64(n), s.own()-own
		if held <= slowHeld/2 && total <= bound*3/4 || time.Now().After(end) {
			break
		}
	}
	t.Logf("%d slow clients: %d bytes of heap for each, %.0f MiB more memory in all", n, held, float64(total)/(1<<20))
	if held > slowHeld || total > bound {
		t.Errorf("slow clients hold %d bytes of heap each, and %d bytes in all", held, total)
	}
	m := s.Metrics("gateway")
	if waiting, sessions := m.Sum("linecard_gateway_outbound_bytes"), m.Sum("linecard_gateway_sessions"); waiting > float64(n*4*slowCipher) || sessions < float64(n) {
		t.Errorf("%.0f bytes wait in the gateway, which has %.0f sessions", waiting, sessions)
	}
	beside := others.cost(s)
	t.Logf("CPU for a message of others: %.0f us alone, %.0f us beside them", alone, beside)
	if long && beside > slowCost*alone { // in CI the machine's other work would decide
		t.Errorf("a message costs %.0f us, %.0f without slow clients", beside, alone)
	}
	drain(t, slow[n/2])
	others.Finish()
}

// drain has a client read at last: all that was sent to it, in turn.
func drain(t *testing.T, r *Raw) {
	t.Helper()
	must(t, r.SetDeadline(time.Now().Add(waitLimit)))
	for got := uint64(0); got < slowMessages; {
		v, err := r.Next()
		must(t, err)
		if v.Tag != stanza.TagMessage {
			t.Fatalf("got %s", v.Tag)
		}
		d, err := stanza.ParseMessageDown(v)
		must(t, err)
		if first := d.ID - got; len(d.Body) != slowCipher || (first-firstID-1)%slowMessages != 0 {
			t.Fatalf("message %d of %d bytes behind %d others", d.ID, len(d.Body), got)
		}
		got++
		must(t, r.Say((&stanza.DeliveryAck{Count: 1}).Append(nil)))
	}
}

// costTime is how long a crowd is watched for what it costs.
const costTime = 5 * time.Second

// cost returns the microseconds of CPU of the server's processes for each message that the crowd sends.
func (c *Crowd) cost(s *System) float64 {
	c.t.Helper()
	look := func() (messages uint64, cpu float64) {
		for _, sent := range c.mark() {
			messages += sent
		}
		for _, p := range s.Processes() {
			b := p.Proc("stat")
			f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
			for _, field := range f[11:13] { // user and system time, in ticks of 10 ms
				n, err := strconv.Atoi(field)
				if err != nil {
					c.t.Fatal(err)
				}
				cpu += float64(n) * 1e4
			}
		}
		return messages, cpu
	}
	messages, cpu := look()
	time.Sleep(costTime) // the load runs for so long
	m, u := look()
	c.report()
	return (u - cpu) / float64(max(m-messages, 1))
}

// slowDialer makes connections like those of a phone far away: packets of the size of the internet's and not of the loopback's, on which the
// kernel would take megabytes for a client, and no room at the client to speak of.
var slowDialer = net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
	e := c.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1400); err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10)
		}
	})
	if e != nil {
		return e
	}
	return err
}}

// living sums the heaps of all processes behind a collection.
func (s *System) living() (bytes int64) {
	for role := range s.admin {
		bytes += s.heap("gc=1", role)["HeapAlloc"]
	}
	return bytes
}

// own sums the memory of all processes but for file pages.
func (s *System) own() (bytes int64) {
	for _, p := range s.procs {
		bytes += heldBy(p).own
	}
	return bytes
}

// stuff sends each of the clients slowMessages messages and waits until all are stored.
func stuff(t *testing.T, s *System, to []*Raw) {
	t.Helper()
	senders := make([]*Raw, parkers)
	for i := range senders {
		var err error
		senders[i], err = parkOne(s.Server, fmt.Sprintf("sender%d", i), &net.Dialer{})
		must(t, err)
		defer senders[i].Close()
		must(t, senders[i].SetDeadline(time.Now().Add(10*time.Minute)))
	}
	inParallel(t, len(senders), func(i int) error {
		id := uint64(firstID)
		for k := i; k < len(to); k += len(senders) {
			if err := stuffOne(senders[i], &id, to[k].Bound); err != nil {
				return err
			}
		}
		return nil
	})
}

func stuffOne(from *Raw, id *uint64, to stanza.Bound) error {
	const ahead = 24
	body := stanza.AppendCipher(nil, to.Device, make([]byte, slowCipher))
	for sent := 0; sent < slowMessages; {
		last := uint64(0)
		waiting := map[uint64]bool{}
		for range min(ahead, slowMessages-sent) {
			*id++
			m := stanza.MessageUp{ID: *id, Account: to.Account, Version: to.Version, After: last, Body: body}
			last = *id
			waiting[*id] = true
			if err := from.Say(m.Append(nil)); err != nil {
				return err
			}
			sent++
		}
		for len(waiting) > 0 {
			v, err := from.Next()
			if err != nil {
				return err
			}
			if v.Tag != stanza.TagAck {
				return fmt.Errorf("%s instead of an ack", v.Tag)
			}
			a, err := stanza.ParseAck(v)
			if err != nil {
				return err
			}
			ids := stanza.Packed(a.IDs)
			for got, ok := ids.Next(); ok; got, ok = ids.Next() {
				delete(waiting, got)
			}
		}
	}
	return nil
}
