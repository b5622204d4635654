package media

import (
	"bytes"
	"context"
	"io"
	"testing"
)

const benchSize = 16 << 20

// BenchmarkPlan is the first reading of a file: encryption, tags, and the blob's name.
func BenchmarkPlan(b *testing.B) {
	file := counting(benchSize)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewPlan(context.Background(), bytes.NewReader(file), benchSize); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSource is the second, while the blob is sent: encryption and tags.
func BenchmarkSource(b *testing.B) {
	file := counting(benchSize)
	plan, _ := sealed(b, file)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.Copy(io.Discard, plan.Source(bytes.NewReader(file))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReader decrypts and verifies.
func BenchmarkReader(b *testing.B) {
	_, blob := sealed(b, counting(benchSize))
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.Copy(io.Discard, NewReader(bytes.NewReader(blob), vectorKey(b), benchSize, 0)); err != nil {
			b.Fatal(err)
		}
	}
}
