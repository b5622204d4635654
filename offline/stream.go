package offline

import (
	"encoding/binary"
	"hash/maphash"

	"linecard.example/internal/slab"
)

// streamState is what is remembered of a stream.
type streamState struct {
	last  uint64 // the last id admitted
	stamp int64  // of its entry; 0 marks a stream that was forgotten since the last flush
}

// streams are the last ids: changed ones until the flush, and a cache of clean ones in two generations, so that eviction is dropping
// the older table. The cache is outside the heap.
type streams struct {
	dirty      map[streamKey]streamState
	young, old *slab.Table[cachedStream] // by a hash of the key
	limit      int                       // of a generation
	seed       maphash.Seed
}

// cachedStream names its stream: of two with the same hash the later one is cached. A stamp of 0 says that there is no such stream.
type cachedStream struct {
	key streamKey
	v   streamState
}

func newStreams(cache int) streams {
	return streams{
		dirty: map[streamKey]streamState{}, young: slab.NewTable[cachedStream](), old: slab.NewTable[cachedStream](),
		limit: max(cache/2, 1), seed: maphash.MakeSeed(),
	}
}

func (l *streams) hash(k streamKey) uint64 { return maphash.Comparable(l.seed, k) & slab.MaxTableKey }

// cached returns a clean stream of the cache.
func (l *streams) cached(k streamKey) (v streamState, ok bool) {
	h := l.hash(k)
	if c := l.young.Get(h); c != nil && c.key == k {
		return c.v, true
	}
	if c := l.old.Get(h); c != nil && c.key == k {
		v = c.v
		l.cache(k, v)
		return v, true
	}
	return v, false
}

func (l *streams) cache(k streamKey, v streamState) {
	if l.young.Len() >= l.limit {
		l.young, l.old = l.old, l.young
		l.young.Clear()
	}
	l.young.Put(l.hash(k), cachedStream{k, v})
}

func (l *streams) uncache(k streamKey) {
	l.young.Delete(l.hash(k))
	l.old.Delete(l.hash(k))
}

// stream returns what is known of a stream.
func (s *state) stream(k streamKey) (streamState, bool) {
	if v, ok := s.streams.dirty[k]; ok {
		return v, v.stamp != 0
	}
	if v, ok := s.streams.cached(k); ok {
		return v, v.stamp != 0
	}
	s.key = appendKey(s.key[:0], tableStream, uint64(k.to), uint64(k.from))
	b, ok, err := s.t.Get(s.key)
	s.check(s.key, err)
	if !ok || err != nil {
		if err == nil {
			s.streams.cache(k, streamState{}) // a first message asks twice: when it comes, and when it is applied
		}
		return streamState{}, false
	}
	v, ok := decodeStream(b)
	if !ok {
		s.damaged(s.key, isMalformed)
		return streamState{}, false
	}
	s.streams.cache(k, v)
	return v, true
}

func (s *state) setStream(k streamKey, v streamState) { s.streams.dirty[k] = v }

// flushStreams appends the changed streams to b.
func (s *state) flushStreams(b batch) {
	for k, v := range s.streams.dirty {
		s.key = appendKey(s.key[:0], tableStream, uint64(k.to), uint64(k.from))
		if v.stamp == 0 {
			b.Delete(s.key)
			s.streams.uncache(k)
			continue
		}
		s.val = appendStream(s.val[:0], v)
		b.Set(s.key, s.val)
		s.streams.cache(k, v)
	}
	clear(s.streams.dirty)
}

func appendStream(dst []byte, v streamState) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, v.last), uint64(v.stamp))
}

func decodeStream(b []byte) (v streamState, ok bool) {
	f := codec{b: b}
	f.uint(&v.last, 1<<63)
	f.stamp(&v.stamp)
	return v, !f.bad && len(f.b) == 0 && v.stamp != 0
}

func streamKeyOf(key []byte) streamKey {
	return streamKey{to: accountOf(keyPart(key, 0)), from: queueKey(keyPart(key, 1))}
}
