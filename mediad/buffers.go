package mediad

import "sync"

const (
	// tinyBuffer is what a request holds while it waits for bytes. net/http has read ahead what comes after it.
	tinyBuffer = 512
	// readAhead is how much that is at most. A big buffer that follows a tiny one gets only the rest of it: if it was full, more is there.
	readAhead = 4 << 10
	// smallBuffer is what bytes are moved in when all big buffers are lent.
	smallBuffer = 4 << 10
	// bigBuffer is what bytes are moved in when they come faster than they are taken.
	bigBuffer = 64 << 10
)

// buffers lends big buffers, up to a number. There is no waiting for one: who gets none goes on with a small one, slower, so that clients
// who hold theirs while they stall cannot stop anybody. Safe for concurrent use.
type buffers struct {
	small sync.Pool

	mu   sync.Mutex
	free [][]byte
	left int // that may still be made
}

func newBuffers(bytes int) *buffers {
	return &buffers{small: sync.Pool{New: func() any { return new([smallBuffer]byte) }}, left: bytes / bigBuffer}
}

// try lends a big buffer; nil when all are lent.
func (b *buffers) try() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		p := b.free[n-1]
		b.free = b.free[:n-1]
		return p
	}
	if b.left == 0 {
		return nil
	}
	b.left--
	return make([]byte, bigBuffer)
}

// put takes back what try lent.
func (b *buffers) put(p []byte) {
	b.mu.Lock()
	b.free = append(b.free, p)
	b.mu.Unlock()
}

// trim lets go of the big buffers that nobody uses.
func (b *buffers) trim() {
	b.mu.Lock()
	b.left += len(b.free)
	b.free = nil
	b.mu.Unlock()
}

// lease is what one body is moved with. One goroutine.
type lease struct {
	from  *buffers
	tiny  [tinyBuffer]byte
	small *[smallBuffer]byte
	big   []byte
}

// grow returns the big buffer if there is one, else the small one.
func (l *lease) grow() []byte {
	if l.big == nil {
		if l.big = l.from.try(); l.big == nil {
			if l.small == nil {
				l.small = l.from.small.Get().(*[smallBuffer]byte)
			}
			return l.small[:]
		}
	}
	return l.big
}

// shrink gives everything back, and returns what is left to wait with.
func (l *lease) shrink() []byte {
	if l.big != nil {
		l.from.put(l.big)
		l.big = nil
	}
	if l.small != nil {
		l.from.small.Put(l.small)
		l.small = nil
	}
	return l.tiny[:]
}
