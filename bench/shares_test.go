package bench

import (
	"slices"
	"testing"
)

func TestSharesOf(t *testing.T) {
	const traces = `File: linecard
Type: cpu
-----------+-------------------------------------------------------
     1.50s   internal/runtime/syscall/linux.Syscall6
             golang.org/x/sys/unix.Write (inline)
             github.com/panjf2000/gnet/v2.(*conn).write
             linecard.example/gateway.(*loop).flush
-----------+-------------------------------------------------------
           pebble: wal-sync
     500ms   runtime.memmove
             linecard.example/internal/link.hand
-----------+-------------------------------------------------------
        2s   linecard.example/offline.(*state).apply
             linecard.example/internal/shard.(*Group[go.shape.struct { linecard.example/internal/stanza.Reason; x []int }]).run
-----------+-------------------------------------------------------
`
	got, err := sharesOf([]byte(traces))
	want := []shared{{"offline: state machine", 0.5}, {"system call: write to a socket", 0.375}, {"copies", 0.125}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if _, err := sharesOf([]byte("-----------+--\n  what  f\n")); err == nil {
		t.Error("a sample without a time was taken")
	}
}
