package metrics

import (
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// WorkerLabel is the label of families that are not summed over workers.
const WorkerLabel = "worker"

// Source is what one process exported at one moment.
type Source struct {
	Worker   string // value of the label where it stays
	Families []*dto.MetricFamily
}

// Sum adds up the metrics of several processes that do one daemon's work, so that whoever scrapes them sees one daemon. Counters and
// histograms never fall: what an ended process had counted stays in the total. Gauges are of those that run. Not safe for concurrent use.
type Sum struct {
	apart map[string]bool    // families that keep the process as a label
	gone  sums               // counters and histograms of ended processes
	top   map[string]float64 // the most shown of each counter, by series: floats added in another order may come out lower
}

// NewSum returns a Sum over no process yet. The families named keep the process as a label.
func NewSum(apart ...string) *Sum {
	s := &Sum{apart: map[string]bool{}, gone: sums{}, top: map[string]float64{}}
	for _, name := range apart {
		s.apart[name] = true
	}
	return s
}

// Retire takes the last metrics of an ended process into the total. Borrows src.
func (s *Sum) Retire(src Source) {
	for _, f := range src.Families {
		if f.GetType() != dto.MetricType_GAUGE && f.GetType() != dto.MetricType_UNTYPED {
			s.gone.add(f, s.label(f, src))
		}
	}
}

// Total returns the families of the running processes and of what is gone, by name, with their metrics by labels. Borrows live; the
// result is the caller's.
func (s *Sum) Total(live []Source) []*dto.MetricFamily {
	all := sums{}
	for _, g := range s.gone {
		all.add(g.family(), "")
	}
	for _, src := range live {
		for _, f := range src.Families {
			all.add(f, s.label(f, src))
		}
	}
	list := make([]*dto.MetricFamily, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name].family()
		s.hold(f)
		list = append(list, f)
	}
	return list
}

func (s *Sum) label(f *dto.MetricFamily, src Source) string {
	if s.apart[f.GetName()] {
		return src.Worker
	}
	return ""
}

// hold keeps sums of floats from falling by a rounding, which a scraper would take for a restart. Counts are whole and exact.
func (s *Sum) hold(f *dto.MetricFamily) {
	for _, m := range f.Metric {
		switch {
		case m.Counter != nil:
			m.Counter.Value = s.most(f, m, m.Counter.GetValue())
		case m.Histogram != nil:
			m.Histogram.SampleSum = s.most(f, m, m.Histogram.GetSampleSum())
		case m.Summary != nil:
			m.Summary.SampleSum = s.most(f, m, m.Summary.GetSampleSum())
		}
	}
}

func (s *Sum) most(f *dto.MetricFamily, m *dto.Metric, v float64) *float64 {
	key := f.GetName() + "\xff" + labelKey(m)
	v = max(v, s.top[key])
	s.top[key] = v
	return &v
}

// sums are families by name.
type sums map[string]*sum

// sum is a family under construction.
type sum struct {
	head *dto.MetricFamily // without metrics
	by   map[string]*dto.Metric
}

func (s *sum) family() *dto.MetricFamily {
	f := &dto.MetricFamily{Name: s.head.Name, Help: s.head.Help, Type: s.head.Type, Unit: s.head.Unit}
	for _, key := range slices.Sorted(maps.Keys(s.by)) {
		f.Metric = append(f.Metric, s.by[key])
	}
	return f
}

// add adds f's metrics, with a label for the worker unless it is empty. A family whose type differs from an earlier one's of that name is
// left out: another version of the program disagrees, and there is no sum.
func (all sums) add(f *dto.MetricFamily, worker string) {
	s := all[f.GetName()]
	if s == nil {
		s = &sum{head: f, by: map[string]*dto.Metric{}}
		all[f.GetName()] = s
	}
	if s.head.GetType() != f.GetType() {
		return
	}
	for _, m := range f.Metric {
		if worker != "" {
			m = withLabel(m, worker)
		}
		key := labelKey(m)
		if have := s.by[key]; have != nil {
			merge(have, m, keepsLargest(f.GetName()))
		} else {
			s.by[key] = bare(m)
		}
	}
}

// bare returns a copy of m that may be added to, without what belongs to one process only.
func bare(m *dto.Metric) *dto.Metric {
	c := &dto.Metric{Label: m.Label}
	switch {
	case m.Counter != nil:
		c.Counter = &dto.Counter{Value: proto.Float64(m.Counter.GetValue())}
	case m.Gauge != nil:
		c.Gauge = &dto.Gauge{Value: proto.Float64(m.Gauge.GetValue())}
	case m.Untyped != nil:
		c.Untyped = &dto.Untyped{Value: proto.Float64(m.Untyped.GetValue())}
	case m.Summary != nil: // quantiles cannot be added
		c.Summary = &dto.Summary{SampleCount: proto.Uint64(m.Summary.GetSampleCount()), SampleSum: proto.Float64(m.Summary.GetSampleSum())}
	case m.Histogram != nil:
		c.Histogram = &dto.Histogram{SampleCount: proto.Uint64(m.Histogram.GetSampleCount()), SampleSum: proto.Float64(m.Histogram.GetSampleSum())}
		for _, b := range m.Histogram.Bucket {
			c.Histogram.Bucket = append(c.Histogram.Bucket,
				&dto.Bucket{UpperBound: proto.Float64(b.GetUpperBound()), CumulativeCount: proto.Uint64(b.GetCumulativeCount())})
		}
	}
	return c
}

// merge adds src to dst, a metric with the same labels that bare made.
func merge(dst, src *dto.Metric, largest bool) {
	join := func(a, b float64) *float64 {
		if largest {
			a, b = max(a, b), 0
		}
		return proto.Float64(a + b)
	}
	switch {
	case dst.Counter != nil && src.Counter != nil:
		dst.Counter.Value = join(dst.Counter.GetValue(), src.Counter.GetValue())
	case dst.Gauge != nil && src.Gauge != nil:
		dst.Gauge.Value = join(dst.Gauge.GetValue(), src.Gauge.GetValue())
	case dst.Untyped != nil && src.Untyped != nil:
		dst.Untyped.Value = join(dst.Untyped.GetValue(), src.Untyped.GetValue())
	case dst.Summary != nil && src.Summary != nil:
		dst.Summary.SampleCount = proto.Uint64(dst.Summary.GetSampleCount() + src.Summary.GetSampleCount())
		dst.Summary.SampleSum = proto.Float64(dst.Summary.GetSampleSum() + src.Summary.GetSampleSum())
	case dst.Histogram != nil && src.Histogram != nil:
		mergeHistogram(dst.Histogram, src.Histogram)
	}
}

// mergeHistogram adds src to dst. Where another version of the program has other buckets, each count goes to the bounds of both.
func mergeHistogram(dst, src *dto.Histogram) {
	bounds := map[float64]bool{}
	for _, b := range slices.Concat(dst.Bucket, src.Bucket) {
		bounds[b.GetUpperBound()] = true
	}
	buckets := make([]*dto.Bucket, 0, len(bounds))
	for _, at := range slices.Sorted(maps.Keys(bounds)) {
		buckets = append(buckets, &dto.Bucket{UpperBound: proto.Float64(at), CumulativeCount: proto.Uint64(below(dst, at) + below(src, at))})
	}
	dst.Bucket = buckets
	dst.SampleCount = proto.Uint64(dst.GetSampleCount() + src.GetSampleCount())
	dst.SampleSum = proto.Float64(dst.GetSampleSum() + src.GetSampleSum())
}

// below is what h has counted at most at, as far as its own bounds tell.
func below(h *dto.Histogram, at float64) (n uint64) {
	for _, b := range h.Bucket {
		if b.GetUpperBound() > at {
			break
		}
		n = b.GetCumulativeCount()
	}
	return n
}

// keepsLargest reports whether a metric is a fact about a process and not an amount: a version, a moment, a setting, a largest. What
// Prometheus calls a process's traffic is what all of the machine have (of its network namespace): one has it all.
func keepsLargest(name string) bool {
	if strings.HasPrefix(name, "process_network_") {
		return true
	}
	for _, end := range []string{"_info", "_time_seconds", "_percent", "_max_bytes", "_peak_bytes"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// withLabel returns m with the worker's label in its place; the rest is shared with m.
func withLabel(m *dto.Metric, worker string) *dto.Metric {
	c := &dto.Metric{Counter: m.Counter, Gauge: m.Gauge, Untyped: m.Untyped, Summary: m.Summary, Histogram: m.Histogram}
	c.Label = append(slices.Clone(m.Label), &dto.LabelPair{Name: proto.String(WorkerLabel), Value: proto.String(worker)})
	slices.SortFunc(c.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	return c
}

func labelKey(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.Label {
		b.WriteString(l.GetName())
		b.WriteByte(0)
		b.WriteString(l.GetValue())
		b.WriteByte(0)
	}
	return b.String()
}
