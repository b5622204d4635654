package turnd

import (
	"testing"
	"time"

	"linecard.example/internal/config"
)

func wantPair(b []byte, id *[12]byte) []byte { return attr(wantUDP(b, id), attrEvenPort, 0x80) }

// TestReservation: an even port and the one after it, which is for the same account, once.
func TestReservation(t *testing.T) {
	cfg := testConfig()
	cfg.AccountAllocations = 4
	s := start(t, cfg, Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.greet()
	again := d.build(allocateRequest, d.id(), wantPair)
	m := d.ask(again)
	if m.typ != allocateRequest.success() || m.relayed.Port()%2 != 0 || len(m.reservation) != 8 {
		t.Fatalf("code %d, relay %v, token %x", m.errorCode, m.relayed, m.reservation)
	}
	if n := s.Allocations(); n != 2 {
		t.Errorf("%d places are taken, want that of the reservation too", n)
	}
	if copied := d.ask(again); string(copied.reservation) != string(m.reservation) || copied.relayed != m.relayed {
		t.Errorf("the same request again: token %x, relay %v", copied.reservation, copied.relayed)
	}
	named := func(b []byte, id *[12]byte) []byte { return attr(wantUDP(b, id), attrReservation, m.reservation...) }
	thief := dial(t, s.Addrs("udp")[0], "bert", "secret-b")
	thief.greet()
	if code := thief.request(allocateRequest, named); code != codeCapacity {
		t.Errorf("another account's reservation: %d", code)
	}
	next := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	next.greet()
	second := next.ask(next.build(allocateRequest, next.id(), named))
	if second.typ != allocateRequest.success() || second.relayed.Port() != m.relayed.Port()+1 {
		t.Fatalf("code %d, relay %v after %v", second.errorCode, second.relayed, m.relayed)
	}
	late := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	late.greet()
	if code := late.request(allocateRequest, named); code != codeCapacity {
		t.Errorf("a reservation for the second time: %d", code)
	}
	if n := s.Allocations(); n != 2 {
		t.Errorf("%d places are taken in the end", n)
	}
	if m = late.ask(late.build(allocateRequest, late.id(), wantPair)); m.typ != allocateRequest.success() {
		t.Fatalf("a reservation that nobody will use: %d", m.errorCode)
	}
	fifth := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	fifth.greet()
	if code := fifth.request(allocateRequest, wantUDP); code != codeQuota {
		t.Errorf("above the quota, reservations counted: %d", code)
	}
}

// TestDrainReservation: nobody waits for a port that was reserved, once nobody can claim it.
func TestDrainReservation(t *testing.T) {
	cfg := testConfig()
	cfg.Drain = config.Duration(time.Hour)
	s, cancel, done := started(t, cfg, Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.greet()
	if code := d.request(allocateRequest, wantPair); code != 0 {
		t.Fatalf("Allocate: %d", code)
	}
	if code := d.request(refreshRequest, wantLifetime(0)); code != 0 {
		t.Fatalf("Refresh to 0: %d", code)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Run waits for a reservation")
	}
}
