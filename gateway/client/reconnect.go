package client

import (
	"errors"
	"math"
	"time"

	"linecard.example/internal/stanza"
)

const (
	backoffUnit = time.Second
	backoffMost = 5 * time.Minute
	maxRetry    = 10 * time.Minute // nobody can keep a client away for longer

	// steadyAfter is how long a session must have lasted for the schedule to start anew: a server that binds and dies at once must not
	// be met by everybody at once, again and again.
	steadyAfter = 10 * time.Second

	// quickNow is how many times in a row "at once" is taken literally.
	quickNow = 8
)

// spread returns d x uniform(0.5, 1.5); u is uniform in [0, 1).
func spread(d time.Duration, u float64) time.Duration { return time.Duration(float64(d) * (0.5 + u)) }

// fullJitter returns the wait before retry n of the network-loss schedule: none before retry 0, then uniform between 0 and 1 s, 2 s, 4 s,
// ... at most 5 minutes.
func fullJitter(n int, u float64) time.Duration {
	if n <= 0 {
		return 0
	}
	most := float64(backoffUnit) * math.Exp2(float64(min(n-1, 20)))
	return time.Duration(min(most, float64(backoffMost)) * u)
}

// schedule decides when to connect again. It reads no clock. Owned by Client.run.
type schedule struct {
	losses int // connections lost in a row
	nows   int // "at once" in a row
	jitter func() float64
}

// plan is what follows the end of a connection.
type plan struct {
	stop    bool // never again by itself
	wait    time.Duration
	patient bool // the server asked for the wait: a user's send does not cut it short
}

// after returns what to do after a connection that ended with err; lived is how long it was bound, 0 if it never was.
func (s *schedule) after(err error, lived time.Duration) plan {
	if lived >= steadyAfter {
		s.reset()
	}
	var closed *CloseError
	var hint *HintError
	var noRoot *NoRootError
	switch {
	case errors.As(err, &closed):
		return s.obey(closed.Reason.Retry(), closed.RetryAfter)
	case errors.As(err, &hint):
		retry := hint.Reason.Retry()
		if retry == stanza.RetryNever { // not authenticated: anybody could have said it
			retry = stanza.RetryBackoff
		}
		return s.obey(retry, hint.RetryAfter)
	case errors.As(err, &noRoot), errors.Is(err, errFatal):
		return plan{stop: true}
	}
	return s.obey(stanza.RetryBackoff, 0)
}

func (s *schedule) obey(retry stanza.Retry, after time.Duration) plan {
	if retry == stanza.RetryNever {
		return plan{stop: true}
	}
	if retry == stanza.RetryNow && s.nows < quickNow {
		s.nows++
		return plan{}
	}
	if retry == stanza.RetryLater && after > 0 {
		s.losses++
		return plan{wait: spread(min(after, maxRetry), s.jitter()), patient: true}
	}
	n := s.losses
	s.losses++
	return plan{wait: fullJitter(n, s.jitter())}
}

// reset starts the schedule anew: after a steady session, a network change, a user's send.
func (s *schedule) reset() { s.losses, s.nows = 0, 0 }

// errFatal marks errors of the Home and of its relation to the server that trying again does not mend.
var errFatal = errors.New("client: cannot go on")
