package link

import (
	"log/slog"
	"sync"

	"linecard.example/internal/stanza"
)

// Word is the Handler of a daemon that is told one thing by the leader of dir/0 and nothing else by anybody: envelopes of one kind, each in the place of
// the one before. A leader is believed unless it is one that was replaced and does not know yet. Safe for concurrent use.
type Word struct {
	kind Kind
	take func(payload []byte) error
	log  *slog.Logger

	mu     sync.Mutex
	term   uint64
	teller *Stream // nil: it is gone, or there was none
}

// NewWord returns a Word that hands payloads of kind to take, one at a time; take does not retain them. What take does not understand
// counts as not said, and log has a line about it.
func NewWord(kind Kind, take func(payload []byte) error, log *slog.Logger) *Word {
	return &Word{kind: kind, take: take, log: log}
}

// Up implements Handler. The leader of dir/0 tells by itself.
func (w *Word) Up(*Stream) {}

// Down implements Handler. When who told is gone, whoever tells next is believed: terms begin again where a directory lost its disk.
func (w *Word) Down(s *Stream, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.teller == s {
		w.teller = nil
	}
}

// Receive implements Handler.
func (w *Word) Receive(s *Stream, batch []Envelope) {
	for i := range batch {
		e := &batch[i]
		size := e.Size()
		if e.Kind == w.kind && e.Group == stanza.DirGroup(0) && s.Peer().Role == RoleRouter {
			w.hear(s, e)
		}
		s.Done(e.Group, size)
	}
}

func (w *Word) hear(s *Stream, e *Envelope) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Term < w.term && w.teller != nil && w.teller != s {
		return
	}
	if err := w.take(e.Payload); err != nil {
		w.log.Warn("a router tells what cannot be read", "kind", e.Kind.String(), "err", err)
		return
	}
	w.term, w.teller = e.Term, s
}
