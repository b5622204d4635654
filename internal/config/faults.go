package config

import (
	"fmt"
	"time"
)

// Faults collects what is wrong with a configuration, so that all of it is reported at once.
type Faults struct {
	prefix string
	list   *[]error
}

// NewFaults returns an empty collection whose entries start with prefix, the section's name.
func NewFaults(prefix string) Faults { return Faults{prefix: prefix, list: new([]error)} }

// Check notes a fault of the field unless ok; format says what is wanted.
func (f Faults) Check(ok bool, field, format string, args ...any) {
	if !ok {
		*f.list = append(*f.list, fmt.Errorf("%s%s: %s", f.prefix, field, fmt.Sprintf(format, args...)))
	}
}

// Count notes a fault unless v is within low to high.
func (f Faults) Count(field string, v, low, high int) {
	f.Check(v >= low && v <= high, field, "%d: want %d to %d", v, low, high)
}

// Size is Count for bytes.
func (f Faults) Size(field string, v, low, high Size) {
	f.Check(v >= low && v <= high, field, "%v: want %v to %v", v, low, high)
}

// Span is Count for durations.
func (f Faults) Span(field string, v Duration, low, high time.Duration) {
	f.Check(v.D() >= low && v.D() <= high, field, "%v: want %v to %v", v, low, high)
}

// Rate notes a fault unless v is above 0 and at most 1e9 per second.
func (f Faults) Rate(field string, v float64) {
	f.Check(v > 0 && v <= 1e9, field, "%v: want above 0 and at most 1e9 per second", v) // false for what is not a number
}

// Add notes faults that another section found.
func (f Faults) Add(errs ...error) { *f.list = append(*f.list, errs...) }

// List returns the faults in the order in which they were noted; nil when there are none.
func (f Faults) List() []error { return *f.list }
