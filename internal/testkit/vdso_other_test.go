//go:build !linux || !amd64

package testkit

import (
	"errors"
	"time"
)

// clock is what steps a process's clock on Linux with an amd64 processor.
type clock struct{}

const noClock = "a process's clock is stepped on Linux with an amd64 processor only"

func newClock(int) (*clock, error) { return nil, errors.New(noClock) }

func (*clock) step(time.Duration) error { return errors.New(noClock) }
