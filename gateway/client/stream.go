package client

import (
	"sort"
	"time"

	"linecard.example/internal/planted"
)

// outMessage is an unacked message in the outbox. It is in one of three conditions:
//
//	queued               to be transmitted when its turn comes
//	charged              transmitted and unanswered: it counts in the window, and due is when it goes again
//	queued and charged   to be transmitted again, while the window still counts the earlier transmission
type outMessage struct {
	rec     *sendRecord // the Home's; read only
	lsn     int64       // durable first
	sent    *Sent       // the application's handle; nil for copies, receipts and what an earlier run left
	queued  bool
	charged bool
	charge  int       // bytes in the window
	due     time.Time // of the next resend
	tries   int       // transmissions since the last answer
	refused int       // retryable refusals since the last transmission that was not refused
}

// stream is the unacked part of one stream, ascending by id.
type stream struct {
	to   Account
	msgs []*outMessage

	// probe: nothing behind the first transmitted message goes before that one is acked. It is set until a stream's first ack and
	// after every refusal. At the start it closes a gap of the protocol: a server that has no memory of the stream ignores `after`, so
	// that a second message could be admitted although the first was refused, and the first would then count as a duplicate. After
	// a refusal it saves a window of messages that would all be refused with gap.
	probe    bool
	proved   time.Time // last ack
	hold     time.Time // nothing goes before
	unled    bool      // because nobody led where a message went: a retry stanza ends it
	needList bool      // waits for the device list of to
	active   bool      // in outbox.active
}

// find returns the index of the first message with an id at or above id.
func (s *stream) find(id uint64) int {
	return sort.Search(len(s.msgs), func(i int) bool { return s.msgs[i].rec.id >= id })
}

// next returns the index of the first message to transmit, -1 when there is none or the probe is under way.
func (s *stream) next() int {
	for i, m := range s.msgs {
		if i+1 < len(s.msgs) && m.passedOver() {
			continue
		}
		if m.queued {
			return i
		}
		if s.probe {
			return -1 // an earlier one is unanswered
		}
	}
	return -1
}

// after returns the id of the last unacked message before index i, 0 when there is none: what `after` names.
func (s *stream) after(i int) uint64 {
	if i == 0 || s.msgs[i-1].passedOver() {
		return 0
	}
	return s.msgs[i-1].rec.id
}

// passedOver is a planted bug, and false.
func (m *outMessage) passedOver() bool { return planted.On(planted.LaterIDFirst) && m.refused > 0 }

// rewind queues everything from index i on, so that it goes again in order.
func (s *stream) rewind(i int) {
	for _, m := range s.msgs[i:] {
		m.queued = true
	}
}

// remove takes the message at index i out.
func (s *stream) remove(i int) {
	s.msgs[i] = nil
	if i == 0 {
		s.msgs = s.msgs[1:]
		return
	}
	s.msgs = append(s.msgs[:i], s.msgs[i+1:]...)
}

// memoryAge is how long after its last ack a stream is sure to be remembered by the server (which keeps it for 30 days).
const memoryAge = 29 * 24 * time.Hour

// probing brings probe up to date: after a month without an ack the server may have forgotten the stream.
func (s *stream) probing(now time.Time) bool {
	if now.Sub(s.proved) > memoryAge {
		s.probe = true
	}
	return s.probe
}
