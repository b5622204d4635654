package link

import (
	"errors"
	"testing"

	"linecard.example/internal/stanza"
)

// TestReserve: what can wait leaves credit to what cannot, and the largest envelope passes at the least credit that may ever be there.
func TestReserve(t *testing.T) {
	for _, initial := range []int{256 << 10, 1 << 20, DefaultCredits} {
		var o outbox
		o.init(1, initial)
		large := &Envelope{Kind: KindDeliver, Group: stanza.QueueGroup(0), Payload: make([]byte, MaxPayload)}
		small := &Envelope{Kind: KindAck, Group: stanza.QueueGroup(0)}
		o.credit[0] = o.initial/2 + 1 // the rest is with the peer, not yet granted again
		if need := int64(large.Size()) + o.reserve(); o.reserve() > 0 && need > o.credit[0] {
			t.Errorf("credit of %d: the largest envelope needs %d of %d", initial, need, o.credit[0])
		}
		medium := &Envelope{Kind: KindDeliver, Group: stanza.QueueGroup(0), Payload: make([]byte, 8<<10)}
		n := 0
		for err := error(nil); err == nil; n++ {
			err = o.send(medium, 0, o.reserve())
			if err != nil && !errors.Is(err, ErrNoCredit) {
				t.Fatal(err)
			}
		}
		if left := o.credit[0]; left < o.reserve() || left > o.reserve()+int64(medium.Size()) {
			t.Errorf("credit of %d: %d envelopes left %d, want about %d", initial, n, left, o.reserve())
		}
		if o.reserve() > 0 {
			if err := o.send(small, 0, 0); err != nil {
				t.Errorf("credit of %d: no room for an answer: %v", initial, err)
			}
		}
	}
	var o outbox
	if o.init(1, DefaultCredits); o.reserve() != DefaultCredits/4 {
		t.Errorf("the reserve is %d", o.reserve())
	}
}
