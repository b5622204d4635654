package mediad

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestBodiesGoInBigPieces: a body that comes fast is read and written in big pieces, whatever of it net/http has read ahead with the header,
// which differs with the header's length. In pieces of 4 KiB it took twice the CPU time.
func TestBodiesGoInBigPieces(t *testing.T) {
	var writes atomic.Int64
	s := newSiteWith(t, func(s *Server) {
		s.depot.files.step = func(op, _ string, _ int64, _ []byte) error {
			if op == "write" {
				writes.Add(1)
			}
			return nil
		}
	})
	const size, piece = 8 << 20, 16 << 10
	body := strings.Repeat("0123456789abcdef", size/16)
	for pad := range 8 {
		writes.Store(0)
		c := s.dial()
		head := fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nPad: %s\r\nContent-Length: %d\r\n\r\n",
			blobsPath, s.uploadGrant(size), strings.Repeat("x", 97*pad), size)
		if _, err := c.Write([]byte(head + body)); err != nil {
			t.Fatal(err)
		}
		s.wantStatus(s.answerOn(c), http.StatusCreated)
		if n := writes.Load(); n > size/piece {
			t.Errorf("header and %d bytes: %d writes, %d bytes each", 97*pad, n, size/n)
		}
	}
}
