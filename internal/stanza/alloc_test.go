package stanza

import "testing"

// hotStanzas are what a gateway sees all day.
var hotStanzas = []string{"message up", "message down", "read up", "read down", "delivered", "ack", "delivery_ack", "ping", "refused, gap"}

func TestDecodeAllocatesNothing(t *testing.T) {
	encoded := sampleStanzas(t)
	var sink uint64
	for name, enc := range encoded {
		frame := append([]byte{0}, enc...)
		allocs := testing.AllocsPerRun(100, func() {
			v, _, err := Decode(enc)
			if err != nil {
				t.Error(err)
			}
			for a := range Attr(MaxAttr + 1) {
				n, _ := v.Uint(a)
				b, _ := v.Bytes(a)
				l, _ := v.List(a)
				for rec, ok := l.Next(); ok; rec, ok = l.Next() {
					d, _ := rec.Uint(AttrDevice)
					sink += d
				}
				sink += n + uint64(len(b))
			}
			sink += uint64(len(v.Body()) + len(v.Raw()))
			if err := DecodeFrame(frame, func(v View) error { return nil }); err != nil {
				t.Error(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

func TestHotStanzasAllocateNothing(t *testing.T) {
	encoded := sampleStanzas(t)
	buf := make([]byte, 0, 512)
	var sink int
	for _, name := range hotStanzas {
		v, _, err := Decode(encoded[name])
		if err != nil {
			t.Fatal(err)
		}
		if allocs := testing.AllocsPerRun(100, func() { sink += parseAndAppend(t, buf, v, name) }); allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
	body := AppendCipher(AppendCipher(nil, 1, []byte("one")), 2, []byte("two"))
	ids := []uint64{5, 6, 7}
	if allocs := testing.AllocsPerRun(100, func() {
		n, _ := ValidCiphers(body)
		packed := AppendPacked(buf, ids)
		for it, ok := Packed(packed), true; ok; {
			var id uint64
			id, ok = it.Next()
			sink += int(id)
		}
		sink += n
	}); allocs != 0 {
		t.Errorf("ciphers and packed ids: %v allocations", allocs)
	}
}

// parseAndAppend is written out, because going through an interface would allocate by itself.
func parseAndAppend(t *testing.T, buf []byte, v View, name string) int {
	var err error
	n := len(buf)
	switch name {
	case "message up":
		var s MessageUp
		s, err = ParseMessageUp(v)
		n = len(s.Append(buf))
	case "message down":
		var s MessageDown
		s, err = ParseMessageDown(v)
		n = len(s.Append(buf))
	case "read up":
		var s ReadUp
		s, err = ParseReadUp(v)
		n = len(s.Append(buf))
	case "read down", "delivered":
		var s ReceiptDown
		s, err = ParseReceiptDown(v)
		n = len(s.Append(buf))
	case "ack":
		var s Ack
		s, err = ParseAck(v)
		n = len(s.Append(buf))
	case "delivery_ack":
		var s DeliveryAck
		s, err = ParseDeliveryAck(v)
		n = len(s.Append(buf))
	case "refused, gap":
		var s Refused
		s, err = ParseRefused(v)
		n = len(s.Append(buf))
	case "ping":
		_, err = ParsePing(v)
		n = len(Pong{}.Append(Ping{}.Append(buf)))
	}
	if err != nil || n == 0 {
		t.Errorf("%s: %d bytes, %v", name, n, err)
	}
	return n
}
