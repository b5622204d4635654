package mediad

import "sync"

const (
	// smallBuffer is what a request holds while it waits for bytes: as much as net/http reads ahead, so that no second copy is made.
	smallBuffer = 4 << 10
	// bigBuffer is what bytes are moved in once they come faster than they are taken.
	bigBuffer = 128 << 10
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

// lease is what one transfer moves bytes with. One goroutine.
type lease struct {
	from *buffers
	tiny *[smallBuffer]byte
	big  []byte
}

func (b *buffers) lease() lease { return lease{from: b, tiny: b.small.Get().(*[smallBuffer]byte)} }

// grow returns the big buffer if there is one, else the small one.
func (l *lease) grow() []byte {
	if l.big == nil {
		l.big = l.from.try()
	}
	if l.big != nil {
		return l.big
	}
	return l.tiny[:]
}

// shrink gives the big buffer back, and returns the small one.
func (l *lease) shrink() []byte {
	if l.big != nil {
		l.from.put(l.big)
		l.big = nil
	}
	return l.tiny[:]
}

// end gives back everything.
func (l *lease) end() {
	l.shrink()
	l.from.small.Put(l.tiny)
	l.tiny = nil
}
