package swarm

import (
	"encoding/json"
	"fmt"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// A histogram covers 1 us to 10 minutes with 3 significant digits; what is longer counts as the longest.
const (
	lowest  = 1
	highest = int64(10 * time.Minute / time.Microsecond)
	digits  = 3
)

// Histogram is an HDR histogram of durations. The zero Histogram is empty. As JSON it is the library's V2 compressed encoding in
// base64, which other HDR tools read; its unit is the microsecond. Not safe for concurrent use.
type Histogram struct{ h *hdr.Histogram }

// Record adds one duration.
func (h *Histogram) Record(d time.Duration) {
	if h.h == nil {
		h.h = hdr.New(lowest, highest, digits)
	}
	_ = h.h.RecordValue(min(max(d.Microseconds(), lowest), highest)) // within range: it cannot fail
}

// Merge adds what another one holds.
func (h *Histogram) Merge(other Histogram) {
	if other.h == nil {
		return
	}
	if h.h == nil {
		h.h = hdr.New(lowest, highest, digits)
	}
	h.h.Merge(other.h)
}

// clone returns a copy that shares nothing.
func (h Histogram) clone() Histogram {
	var c Histogram
	c.Merge(h)
	return c
}

// Count returns how many durations were recorded.
func (h Histogram) Count() int64 {
	if h.h == nil {
		return 0
	}
	return h.h.TotalCount()
}

// At returns the duration at a percentile, 0 to 100; 0 when nothing was recorded.
func (h Histogram) At(percentile float64) time.Duration {
	if h.h == nil {
		return 0
	}
	return time.Duration(h.h.ValueAtPercentile(percentile)) * time.Microsecond
}

// Mean returns the mean.
func (h Histogram) Mean() time.Duration {
	if h.h == nil {
		return 0
	}
	return time.Duration(h.h.Mean() * float64(time.Microsecond))
}

// Max returns the longest.
func (h Histogram) Max() time.Duration {
	if h.h == nil {
		return 0
	}
	return time.Duration(h.h.Max()) * time.Microsecond
}

// MarshalJSON encodes the histogram as a string; "" when it is empty.
func (h Histogram) MarshalJSON() ([]byte, error) {
	if h.h == nil || h.h.TotalCount() == 0 {
		return []byte(`""`), nil
	}
	b, err := h.h.Encode(hdr.V2CompressedEncodingCookieBase) // base64 already
	if err != nil {
		return nil, fmt.Errorf("swarm: encode a histogram: %w", err)
	}
	return json.Marshal(string(b))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	h.h = nil
	if text == "" {
		return nil
	}
	read, err := hdr.Decode([]byte(text))
	if err != nil {
		return fmt.Errorf("swarm: a histogram: %w", err)
	}
	h.h = read
	return nil
}
