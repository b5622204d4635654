package testkit

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"linecard.example/bench/relay"
	"linecard.example/gateway/client"
)

// These tests relay packets through processes as they run, with credentials that gateways gave.

// credential asks for what a device may use relays with.
func credential(t testing.TB, d *Device) (c client.RelayCredential, server netip.AddrPort) {
	t.Helper()
	Eventually(t, "credentials", func() bool { // not before the gateway has heard a secret
		var err error
		c, err = d.RelayCredential(t.Context())
		return err == nil
	})
	at, ok := strings.CutPrefix(c.URLs[0], "turn:")
	at, udp := strings.CutSuffix(at, "?transport=udp")
	server, err := netip.ParseAddrPort(at)
	if !ok || !udp || err != nil {
		t.Fatalf("the first of %q is no UDP", c.URLs)
	}
	return c, server
}

// relayed allocates.
func relayed(t testing.TB, server netip.AddrPort, c client.RelayCredential) *relay.Client {
	t.Helper()
	a, err := relay.Allocate(server, c.Username, c.Password)
	must(t, err)
	t.Cleanup(a.Close)
	return a
}

// refusedWith reports whether a server refuses to allocate, with a code.
func refusedWith(server netip.AddrPort, c client.RelayCredential, code int) bool {
	a, err := relay.Allocate(server, c.Username, c.Password)
	if err == nil {
		a.Close()
	}
	var refused relay.RefusedError
	return errors.As(err, &refused) && refused.Code == code
}

// connect binds two allocations to each other.
func connect(t testing.TB, a, b *relay.Client) {
	t.Helper()
	must(t, a.Bind(b.Relayed()))
	must(t, b.Bind(a.Relayed()))
}

// speak sends a payload each way. Packets may be lost, on a machine with much else to do.
func speak(t testing.TB, a, b *relay.Client) {
	t.Helper()
	for _, way := range []struct {
		from, to *relay.Client
		text     string
	}{{a, b, "how are you"}, {b, a, "well"}} {
		Eventually(t, "a packet", func() bool {
			must(t, way.from.Send(way.text))
			got, err := way.to.Receive(time.Second)
			return err == nil && got == way.text
		})
	}
}

// call has two devices reach each other through the relay that their gateway names.
func call(t testing.TB, ann, bob *Device) (a, b *relay.Client) {
	t.Helper()
	ca, server := credential(t, ann)
	cb, _ := credential(t, bob)
	a, b = relayed(t, server, ca), relayed(t, server, cb)
	connect(t, a, b)
	speak(t, a, b)
	return a, b
}

// TestCallTogether: with nothing configured `up` gives credentials for its own relay, and two that are relayed reach each other there. Asked
// to end, it lets calls go on and takes no new ones; it ends when they do.
func TestCallTogether(t *testing.T) {
	s := Start(t, Together, Settings{Relay: "udp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\ndrain = \"1h\"\n"})
	ann, bob := s.NewDevice("ann", nil, DeviceOptions{}), s.NewDevice("bob", nil, DeviceOptions{})
	a, b := call(t, ann, bob)
	c, server := credential(t, ann)
	if len(c.URLs) != 2 || !strings.HasSuffix(c.URLs[1], "?transport=tcp") {
		t.Errorf("clients are told %q", c.URLs)
	}
	if err := a.Bind(netip.MustParseAddrPort("127.0.0.1:" + portOf(t, s.Admin("up")))); err == nil {
		t.Error("the admin listener may be relayed to")
	}
	p := s.Process("up")
	p.Signal(syscall.SIGTERM)
	Eventually(t, "the relay drains", func() bool { return refusedWith(server, c, 508) })
	speak(t, a, b)
	must(t, a.Refresh())
	if !p.Running() {
		t.Error("it ended under a call")
	}
	a.Close()
	b.Close()
	Eventually(t, "the process ends with the calls", func() bool { return !p.Running() })
	if code := p.ExitCode(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func portOf(t testing.TB, addr string) string {
	t.Helper()
	_, port, ok := strings.Cut(addr, ":")
	if !ok {
		t.Fatal(addr)
	}
	return port
}

// addTurnd gives a system of processes a turnd, and has its gateway tell clients of it.
func (s *System) addTurnd(lines string) {
	s.t.Helper()
	listen := FreeAddr(s.t)
	s.addDaemon("turnd", fmt.Sprintf("[relay]\nudp = [%q]\ntcp = []\n%s", listen, lines), fmt.Sprintf("relay_urls = [\"turn:%s?transport=udp\"]\n", listen), Settings{})
}

// TestCallApart: a turnd of its own hears the secrets from the routers, and needs them no more once it has. Killed, it forgets calls and not
// who may make them.
func TestCallApart(t *testing.T) {
	s := prepare(t, Apart, Settings{})
	s.addTurnd("")
	s.StartAll()
	ann, bob := s.NewDevice("ann", nil, DeviceOptions{}), s.NewDevice("bob", nil, DeviceOptions{})
	call(t, ann, bob)
	c, server := credential(t, ann)
	p := s.Process("turnd")
	Eventually(t, "a line for audit", func() bool {
		return strings.Contains(p.Output(), fmt.Sprintf("msg=\"allocation started\" daemon=turnd owner=:%d ", ann.Self().Account))
	})

	p.Kill()
	s.StartAll()
	a, b := relayed(t, server, c), relayed(t, server, c) // the same credentials as before
	connect(t, a, b)
	speak(t, a, b)

	s.Process("router").Kill()
	speak(t, a, b)
	must(t, a.Refresh())
	x, y := relayed(t, server, c), relayed(t, server, c)
	connect(t, x, y)
	speak(t, x, y)
	if status, page := s.Get("turnd", "/readyz"); status != http.StatusOK {
		t.Errorf("a turnd that serves is not ready: %s", page)
	}

	p.Kill()
	p.Start()
	Eventually(t, "a turnd that knows no secret says so", func() bool {
		status, page := s.Get("turnd", "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(page, "no relay secret yet")
	})
	Eventually(t, "it grants nothing that it cannot verify", func() bool { return refusedWith(server, c, 401) })
	s.StartAll()
	a, b = relayed(t, server, c), relayed(t, server, c)
	connect(t, a, b)
	speak(t, a, b)
	a.Close()
	b.Close()
	stop(t, s, "turnd")
}

// TestCallCut: a call that lasts longer than a drain is ended with it, and the log says so.
func TestCallCut(t *testing.T) {
	s := prepare(t, Apart, Settings{})
	s.addTurnd("drain = \"100ms\"\n")
	s.StartAll()
	c, server := credential(t, s.NewDevice("ann", nil, DeviceOptions{}))
	a := relayed(t, server, c)
	stop(t, s, "turnd")
	if out := s.Process("turnd").Output(); !strings.Contains(out, "allocation ended") || !strings.Contains(out, "reason=draining") || !strings.Contains(out, "relay="+a.Relayed().String()) {
		t.Error("the log does not say how the allocation ended")
	}
}

// TestCallEndedTwice: a second signal ends a drain at once.
func TestCallEndedTwice(t *testing.T) {
	s := Start(t, Together, Settings{Relay: "udp = [\"127.0.0.1:0\"]\ntcp = []\ndrain = \"1h\"\n"})
	c, server := credential(t, s.NewDevice("ann", nil, DeviceOptions{}))
	relayed(t, server, c)
	p := s.Process("up")
	p.Signal(syscall.SIGTERM)
	Eventually(t, "the relay drains", func() bool { return refusedWith(server, c, 508) })
	p.Signal(syscall.SIGTERM)
	Eventually(t, "the process ends", func() bool { return !p.Running() })
}
