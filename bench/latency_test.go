package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// samples are durations in nanoseconds; sorted before anything is read from them.
type samples []int64

// percentile of sorted samples, in milliseconds.
func (v samples) percentile(p float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	return float64(v[min(len(v)-1, int(p/100*float64(len(v))))]) / 1e6
}

func (v samples) String() string {
	return fmt.Sprintf("%.2f / %.2f ms", v.percentile(50), v.percentile(99))
}

const (
	firstBucket = 125 * time.Microsecond // upper bound of the first row of a histogram; each further one is twice as high
	barWidth    = 50
)

// histogram formats sorted samples: a line of percentiles, then one for each power of two up to the longest.
func (v samples) histogram(name string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s: %d samples, p50 %.2f, p90 %.2f, p99 %.2f, p99.9 %.2f, longest %.2f ms\n", name, len(v),
		v.percentile(50), v.percentile(90), v.percentile(99), v.percentile(99.9), v.percentile(100))
	below := 0
	for bound := int64(firstBucket); below < len(v); bound *= 2 {
		upTo, _ := slices.BinarySearch(v, bound+1)
		share := float64(upTo-below) / float64(len(v))
		line := fmt.Sprintf("  <= %8.3f ms %6.2f %% %s", float64(bound)/1e6, 100*share, strings.Repeat("#", int(share*barWidth+0.5)))
		s.WriteString(strings.TrimRight(line, " ") + "\n")
		below = upTo
	}
	return s.String()
}

func TestHistogram(t *testing.T) {
	v := samples{100e3, 125e3, 126e3, 900e3}
	const want = `x: 4 samples, p50 0.13, p90 0.90, p99 0.90, p99.9 0.90, longest 0.90 ms
  <=    0.125 ms  50.00 % #########################
  <=    0.250 ms  25.00 % #############
  <=    0.500 ms   0.00 %
  <=    1.000 ms  25.00 % #############
`
	if got := v.histogram("x"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := (samples{}).histogram("none"); !strings.Contains(got, "0 samples") {
		t.Error(got)
	}
}
