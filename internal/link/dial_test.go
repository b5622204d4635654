package link

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestIntroducedTooLate: an introduction that ends in the moment in which the time for it ends, or Dial, either goes on with a context
// that lasts, or has a reason. Without one the dialler took it for a failure that nothing had brought about, and the process ended.
func TestIntroducedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := []error{errIntroTimeout, context.Canceled, nil}
		for n := range 3000 {
			stream, cancel := context.WithCancelCause(t.Context())
			ctx, stop := context.WithCancel(t.Context())
			err := limited(ctx, cancel, func() error {
				switch n % 3 {
				case 0:
					time.Sleep(introTimeout)
				case 1:
					stop()
				}
				return nil
			})
			synctest.Wait() // what has been begun cancels now
			if want := ends[n%3]; err != nil && !errors.Is(err, want) || (err == nil) != (stream.Err() == nil) {
				t.Fatalf("try %d: %v, and the context %v", n, err, stream.Err())
			}
			stop()
			cancel(nil)
		}
	})
}
