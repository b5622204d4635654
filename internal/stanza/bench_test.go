package stanza

import "testing"

func BenchmarkDecodeMessage(b *testing.B) {
	up := MessageUp{ID: budgetID, After: budgetID - 1, Account: budgetAccount, Version: 7, Body: AppendCipher(nil, 1, make([]byte, 64))}
	benchmarkDecode(b, up.Append(nil))
}

func BenchmarkDecodeMessage8Devices(b *testing.B) {
	var body []byte
	for i := range 8 {
		body = AppendCipher(body, Device(i+1), make([]byte, 200))
	}
	up := MessageUp{ID: budgetID, After: budgetID - 1, Account: budgetAccount, Version: 7, Body: body}
	benchmarkDecode(b, up.Append(nil))
}

func benchmarkDecode(b *testing.B, enc []byte) {
	b.ReportAllocs()
	b.SetBytes(int64(len(enc)))
	for b.Loop() {
		v, _, err := Decode(enc)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ParseMessageUp(v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendMessageDown(b *testing.B) {
	s := MessageDown{ID: budgetID, From: budgetAccount, FromDevice: 1, SentAt: budgetSentAt, Body: make([]byte, 64)}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = s.Append(buf[:0])
	}
}

func BenchmarkDecodeAck(b *testing.B) {
	s := Ack{IDs: AppendPacked(nil, []uint64{budgetID - 2, budgetID - 1, budgetID})}
	enc := s.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		v, _, _ := Decode(enc)
		if _, err := ParseAck(v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeFrame32Acks(b *testing.B) {
	s := Ack{IDs: AppendPacked(nil, []uint64{budgetID})}
	frame := []byte{0}
	for range 32 {
		frame = s.Append(frame)
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if err := DecodeFrame(frame, func(View) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeviceListCompressed(b *testing.B) {
	list := AppendDevices(nil, deviceKeys(MaxDevices))
	keys := make([]DeviceKey, 0, MaxDevices)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (DeviceList{zsize: len(list), zbody: compress(list)}).Keys(keys[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
