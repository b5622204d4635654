package offline

// timer is something that is due at a time. Times are ms.
type timer[T any] struct {
	at int64
	v  T
}

// timers is a binary heap by time. What was armed cannot be disarmed: the owner of a value decides when it comes out whether it is
// still due. Push and pop allocate only to grow.
type timers[T any] []timer[T]

func (h *timers[T]) arm(at int64, v T) {
	*h = append(*h, timer[T]{at, v})
	s := *h
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if s[up].at <= s[i].at {
			return
		}
		s[up], s[i] = s[i], s[up]
		i = up
	}
}

// due takes the earliest timer if its time has come.
func (h *timers[T]) due(now int64) (v T, ok bool) {
	s := *h
	if len(s) == 0 || s[0].at > now {
		return v, false
	}
	v = s[0].v
	last := len(s) - 1
	s[0] = s[last]
	s[last] = timer[T]{}
	s = s[:last]
	*h = s
	for i := 0; ; {
		least := i
		for _, down := range [2]int{2*i + 1, 2*i + 2} {
			if down < last && s[down].at < s[least].at {
				least = down
			}
		}
		if least == i {
			return v, true
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
}
