package tuning

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// portRange is ports from first to last, both of them in it.
type portRange struct{ first, last int }

// parsePorts reads a list such as "8080,9148-9160", in order and with neighbours joined; the empty list is none. ok is false if it is no
// list of ports.
func parsePorts(text string) (list []portRange, ok bool) {
	if strings.TrimSpace(text) == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			high = low
		}
		a, err1 := strconv.ParseUint(low, 10, 16)
		b, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || a > b {
			return nil, false
		}
		list = append(list, portRange{int(a), int(b)})
	}
	return joinPorts(list), true
}

// joinPorts sorts ranges and joins those that meet. It changes the list.
func joinPorts(list []portRange) (joined []portRange) {
	slices.SortFunc(list, func(a, b portRange) int { return a.first - b.first })
	for _, r := range list {
		if n := len(joined); n > 0 && r.first <= joined[n-1].last+1 {
			joined[n-1].last = max(joined[n-1].last, r.last)
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// coverPorts reports whether all ports of want are in have.
func coverPorts(have, want []portRange) bool {
	for _, w := range want {
		if !slices.ContainsFunc(have, func(h portRange) bool { return h.first <= w.first && w.last <= h.last }) {
			return false
		}
	}
	return true
}

// formatPorts writes a list as the kernel shows it.
func formatPorts(list []portRange) string {
	parts := make([]string, len(list))
	for i, r := range list {
		if parts[i] = strconv.Itoa(r.first); r.last > r.first {
			parts[i] = fmt.Sprintf("%d-%d", r.first, r.last)
		}
	}
	return strings.Join(parts, ",")
}
