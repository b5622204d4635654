package bench

import (
	"testing"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// BenchmarkCodec shows that the path of a frame through the codec allocates nothing: open, decode, parse, encode, seal. The times of the
// parts are in the benchmarks of internal/stanza and internal/wire.
func BenchmarkCodec(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	var key [wire.KeySize]byte
	sealer := wire.NewSealer()
	up := stanza.MessageUp{ID: 5, After: 4, Account: 77, Version: 1, Body: stanza.AppendCipher(nil, 1, make([]byte, bodySize))}
	frame := sealer.Seal(nil, &key, 0, up.Append([]byte{0}))
	plain, out, sealed := make([]byte, 0, 512), make([]byte, 0, 512), make([]byte, 0, 512)
	path := func() {
		opened, err := sealer.Open(plain[:0], &key, 0, frame)
		if err != nil {
			b.Fatal(err)
		}
		v, _, err := stanza.Decode(opened[1:])
		if err != nil {
			b.Fatal(err)
		}
		m, err := stanza.ParseMessageUp(v)
		if err != nil {
			b.Fatal(err)
		}
		_, cipher, _, err := stanza.NextCipher(m.Body)
		if err != nil {
			b.Fatal(err)
		}
		down := stanza.MessageDown{ID: m.ID, From: m.Account, FromDevice: 1, SentAt: 1_800_000_000_000, Body: cipher}
		out = down.Append(append(out[:0], 0))
		sealed = sealer.AppendSealedFrame(sealed[:0], &key, 1, out)
	}
	allocs := testing.AllocsPerRun(1000, path)
	b.ReportMetric(allocs, "allocs/frame")
	if allocs != 0 {
		b.Errorf("%v allocations", allocs)
	}
}

// bodySize is the ciphertext of a message in bytes.
const bodySize = 80
