package router

import (
	"os"
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// TestOnlineCost pins what a bound session costs its router: nothing on the heap, and its entry with the table's slack. The accounts are
// there before, and cost what TestManyAccounts says.
func TestOnlineCost(t *testing.T) {
	sessions := 10_000
	if os.Getenv("LINECARD_LONG") != "" {
		sessions = 200_000
	}
	h := newHarness(t, nil)
	for n := range sessions {
		c := command{op: opRegister, text: []byte{'h', byte('a' + n%26), byte('a' + n/26%26), byte('a' + n/676%26), byte('a' + n/17576%26)}, key: key(1), create: true}
		h.m.directory.apply(entry(1, c.append(nil)))
	}
	s := h.gateway(1, 1)
	bind := func(n int) {
		account := stanza.Account((n+1)*testShards + testShard)
		h.send(s, link.Envelope{Kind: link.KindRebind, Slot: uint32(n), Gen: 1, Account: account, Device: 1, Serial: link.MakeFence(1, uint64(n+1))})
	}
	bind(0)
	before := settled()
	for n := range sessions {
		bind(n)
	}
	after := settled()
	if len(s.got) > 0 || h.m.bindings.len() != sessions {
		t.Fatalf("%d bound, %d answers", h.m.bindings.len(), len(s.got))
	}
	per := 1 / float64(sessions)
	heap, objects := float64(int64(after.HeapAlloc-before.HeapAlloc))*per, float64(int64(after.HeapObjects-before.HeapObjects))*per
	mapped := float64(h.m.bindings.table.Bytes()) * per
	t.Logf("%d sessions: %.1f bytes and %.3f objects on the heap, %.1f bytes mapped for each", sessions, heap, objects, mapped)
	if heap > 4 || objects > 0.02 || mapped > 52 {
		t.Errorf("%.1f bytes and %.3f objects on the heap, %.1f bytes mapped for each: want none, none and at most 52", heap, objects, mapped)
	}
}
