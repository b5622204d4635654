package shard

// trail knows about how many bytes stand in the log behind an index, so that what is kept for followers is bounded by size, too: raft counts
// packs, of which a thousand may be 300 KB or 256 MB. Shard goroutine only.
type trail struct {
	total int64 // bytes applied since the group was opened
	marks []trailMark
}

// trailMark says how much had been applied up to an index.
type trailMark struct {
	index uint64
	total int64
}

// trailMarks is into how many parts the bound is divided: the log is cut at the end of one.
const trailMarks = 16

// note counts an applied entry; limit is the bound.
func (t *trail) note(index uint64, size int, limit int64) {
	t.total += int64(size)
	if n := len(t.marks); n > 0 && t.total-t.marks[n-1].total < limit/trailMarks {
		return
	}
	for len(t.marks) > 1 && t.total-t.marks[1].total >= limit {
		t.marks = t.marks[1:] // the one behind it will do for a cut
	}
	t.marks = append(t.marks, trailMark{index, t.total})
}

// cut returns up to where the log may go so that about limit bytes are left of it; 0: nothing may.
func (t *trail) cut(limit int64) (index uint64) {
	for _, m := range t.marks {
		if t.total-m.total < limit {
			break
		}
		index = m.index
	}
	return index
}
