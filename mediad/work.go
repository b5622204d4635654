package mediad

import "sync"

// work is the requests whose bodies are being taken in. Safe for concurrent use.
type work struct {
	mu   sync.Mutex
	live map[*request]struct{}
	why  Reason // not OK: all of them are cut, those to come as well
}

func (w *work) enter(q *request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live[q] = struct{}{}
	if w.why != OK {
		q.cut(w.why)
	}
}

func (w *work) leave(q *request) {
	w.mu.Lock()
	delete(w.live, q)
	w.mu.Unlock()
}

// cut ends all bodies.
func (w *work) cut(why Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why = why
	for q := range w.live {
		q.cut(why)
	}
}
