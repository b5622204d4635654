package offline

import "encoding/binary"

// streamState is what is remembered of a stream.
type streamState struct {
	last  uint64 // the last id admitted
	stamp int64  // of its entry; 0 marks a stream that was forgotten since the last flush
}

// streams are the last ids: changed ones until the flush, and a cache of clean ones in two generations, so that eviction is dropping
// the older map.
type streams struct {
	dirty      map[streamKey]streamState
	young, old map[streamKey]streamState
	limit      int // of a generation
}

func newStreams(cache int) streams {
	return streams{
		dirty: map[streamKey]streamState{}, young: map[streamKey]streamState{}, old: map[streamKey]streamState{},
		limit: max(cache/2, 1),
	}
}

// stream returns what is known of a stream.
func (s *state) stream(k streamKey) (streamState, bool) {
	if v, ok := s.streams.dirty[k]; ok {
		return v, v.stamp != 0
	}
	if v, ok := s.streams.young[k]; ok {
		return v, true
	}
	if v, ok := s.streams.old[k]; ok {
		s.streams.cache(k, v)
		return v, true
	}
	s.key = appendKey(s.key[:0], tableStream, uint64(k.to), uint64(k.from))
	b, ok, err := s.t.Get(s.key)
	s.check(s.key, err)
	if !ok || err != nil {
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

func (l *streams) cache(k streamKey, v streamState) {
	if len(l.young) >= l.limit {
		l.young, l.old = l.old, l.young
		clear(l.young)
	}
	l.young[k] = v
}

func (s *state) setStream(k streamKey, v streamState) { s.streams.dirty[k] = v }

// flushStreams appends the changed streams to b.
func (s *state) flushStreams(b batch) {
	for k, v := range s.streams.dirty {
		s.key = appendKey(s.key[:0], tableStream, uint64(k.to), uint64(k.from))
		if v.stamp == 0 {
			b.Delete(s.key)
			delete(s.streams.young, k)
			delete(s.streams.old, k)
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
