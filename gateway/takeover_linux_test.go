package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/config"
)

// giver plays the old process by hand: it has given one session for good, of an account that is bound there, and sends no more.
type giver struct {
	handoverConn
	client net.Conn
}

// gives returns a process that takes from a giver, and the giver when it has.
func gives(t *testing.T) (*harness, *giver) {
	t.Helper()
	socket := testSocket(t)
	ln, err := listenHandover(socket)
	must(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	dialled := make(chan *Takeover, 1)
	go func() {
		o, err := DialTakeover(TakeoverOptions{Socket: socket, Node: 7, Shards: testShards, Cluster: "test"})
		if err != nil {
			t.Error(err)
		}
		dialled <- o
	}()
	c, err := ln.AcceptUnix()
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	old := &giver{handoverConn: handoverConn{c}}
	_, err = old.want(msgHello, patience)
	must(t, err)
	must(t, old.send(msgHello, (&handoverHello{version: recordVersion, node: 7, incarnation: 9, shards: testShards, cluster: "test"}).append(nil)))
	o := <-dialled
	h := begin(t, func(c *Config) { c.DrainTimeout = config.Duration(3 * patience) }, func(d *Deps) { d.Takeover, d.Incarnation = o, o.Incarnation() })
	_, err = old.want(msgTake, patience)
	must(t, err)
	old.client = old.page(t)
	_, err = old.want(msgHeld, patience)
	must(t, err)
	must(t, old.send(msgYours, nil))
	h.until("the session", func() bool { return h.g.open.Load() == 1 })
	return h, old
}

// page sends a page of one session and returns its client.
func (o *giver) page(t *testing.T) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	server, err := ln.Accept()
	must(t, err)
	f, err := server.(*net.TCPConn).File()
	must(t, err)
	must(t, o.send(msgSessions, appendRecord(nil, &record{account: 1, device: 1, serial: 1}), int(f.Fd())))
	must(t, errors.Join(f.Close(), server.Close()))
	return client
}

// TestTakeoverEnds: a process that is told to end while it takes sessions takes no more of them: the old one keeps what it has left.
func TestTakeoverEnds(t *testing.T) {
	h, old := gives(t)
	go h.stop()
	h.until("its end begins", h.g.draining.Load)
	if kind, _, _, err := old.receive(patience); !errors.Is(err, io.EOF) {
		t.Errorf("message %d, %v: want the end of the connection", kind, err)
	}
	if h.g.open.Load() != 1 {
		t.Error("the old process had to wait for the end of the one session")
	}
	_ = old.client.Close()
}

// TestTakeoverFails: a process that cannot go on with a hand-over says so at once, and not when its own sessions have gone.
func TestTakeoverFails(t *testing.T) {
	h, old := gives(t)
	must(t, old.send(msgAbort, []byte("enough")))
	if kind, _, _, err := old.receive(patience); !errors.Is(err, io.EOF) {
		t.Errorf("message %d, %v: want the end of the connection", kind, err)
	}
	if h.g.open.Load() != 1 {
		t.Error("the old process had to wait for the end of the one session")
	}
	_ = old.client.Close()
	if err := <-h.ended; err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("Run: %v", err)
	}
	h.ended <- nil
}

// TestTakeoverVersion: a binary that does not know how the running gateway writes sessions leaves it alone.
func TestTakeoverVersion(t *testing.T) {
	socket := testSocket(t)
	ln, err := listenHandover(socket)
	must(t, err)
	defer ln.Close()
	said := make(chan error, 1)
	go func() {
		c, err := ln.AcceptUnix()
		if err != nil {
			said <- err
			return
		}
		defer c.Close()
		_, err = handoverConn{c}.want(msgHello, patience)
		later := handoverHello{version: recordVersion + 1, node: 7, shards: testShards, cluster: "test"}
		said <- errors.Join(err, handoverConn{c}.send(msgHello, append(later.append(nil), "more"...)))
	}()
	_, err = DialTakeover(TakeoverOptions{Socket: socket, Node: 7, Shards: testShards, Cluster: "test"})
	if err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("said %v", err)
	}
	must(t, <-said)
}

// TestTakeoverBrokenPage: a process that is sent what it cannot read takes none of it.
func TestTakeoverBrokenPage(t *testing.T) {
	good := appendRecord(nil, &record{account: 1, device: 1, serial: 1})
	for name, page := range map[string]struct {
		records []byte
		sockets int
	}{
		"cut": {good[:len(good)-1], 1}, "one socket too many": {good, 2}, "one too few": {append(good, good...), 1}, "nobody": {make([]byte, len(good)), 1},
	} {
		if err := checkPage(page.records, page.sockets); !errors.Is(err, errRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, checkPage(good, 1))
}

// TestHasEnded: a process counts as gone when it has ended, whether or not its parent has noticed.
func TestHasEnded(t *testing.T) {
	if hasEnded(os.Getpid()) {
		t.Error("this process is not gone")
	}
	cmd := exec.Command("true")
	must(t, cmd.Start())
	// The kernel tells only the parent's wait, which would take the answer away.
	for end := time.Now().Add(patience); !hasEnded(cmd.Process.Pid); time.Sleep(time.Millisecond) { // what is tested is the looking
		if time.Now().After(end) {
			t.Fatal("a process that nobody waits for is not seen to end")
		}
	}
	must(t, cmd.Wait())
	if !hasEnded(cmd.Process.Pid) {
		t.Error("it is back")
	}
}
