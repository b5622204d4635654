//go:build !linux

package relay

import (
	"errors"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// engine is there on Linux only: pacing needs a timer that a poller can wait for.
type engine struct {
	relayed, lost int64
	trips         *hdrhistogram.Histogram
}

func newEngine(Options, []*session) (*engine, error) { return nil, errors.ErrUnsupported }

func (e *engine) close()                  {}
func (e *engine) reset()                  {}
func (e *engine) run(time.Duration) error { return errors.ErrUnsupported }
