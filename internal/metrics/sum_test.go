package metrics

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// process is a registry with one of each kind, after one observation of v.
func process(v float64, buckets ...float64) []*dto.MetricFamily {
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total", Help: "A counter."}, []string{"kind"})
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h_seconds", Buckets: buckets})
	apart := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lag_seconds", Buckets: []float64{1}}, []string{"loop"})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "g"})
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "x_info"})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s_seconds", Objectives: map[float64]float64{0.5: 0.1}})
	reg.MustRegister(counter, histogram, apart, gauge, info, summary)
	counter.WithLabelValues("a").Add(v)
	histogram.Observe(v)
	apart.WithLabelValues("0").Observe(v)
	gauge.Set(v)
	info.Set(1)
	summary.Observe(v)
	all, err := reg.Gather()
	if err != nil {
		panic(err)
	}
	return all
}

// show writes families in one line each.
func show(all []*dto.MetricFamily) string {
	var b strings.Builder
	for _, f := range all {
		for _, m := range f.Metric {
			b.WriteString(f.GetName())
			for _, l := range m.Label {
				fmt.Fprintf(&b, " %s=%s", l.GetName(), l.GetValue())
			}
			switch {
			case m.Histogram != nil:
				fmt.Fprintf(&b, " n=%d sum=%v", m.Histogram.GetSampleCount(), m.Histogram.GetSampleSum())
				for _, k := range m.Histogram.Bucket {
					fmt.Fprintf(&b, " %v:%d", k.GetUpperBound(), k.GetCumulativeCount())
				}
			case m.Summary != nil:
				fmt.Fprintf(&b, " n=%d sum=%v", m.Summary.GetSampleCount(), m.Summary.GetSampleSum())
			default:
				fmt.Fprintf(&b, " %v", m.GetCounter().GetValue()+m.GetGauge().GetValue())
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// TestSum: two workers, one that ends, one with other buckets that takes its place.
func TestSum(t *testing.T) {
	s := NewSum("lag_seconds")
	one, two := Source{"1", process(0.5, 1, 4)}, Source{"2", process(2, 1, 4)}
	if got := show(s.Total([]Source{one, two})); got != `c_total kind=a 2.5
g 2.5
h_seconds n=2 sum=2.5 1:1 4:2
lag_seconds loop=0 worker=1 n=1 sum=0.5 1:1
lag_seconds loop=0 worker=2 n=1 sum=2 1:0
s_seconds n=2 sum=2.5
x_info 1
` {
		t.Errorf("two workers:\n%s", got)
	}
	s.Retire(two)
	if got := show(s.Total([]Source{one, {"2", process(3, 2)}})); got != `c_total kind=a 5.5
g 3.5
h_seconds n=3 sum=5.5 1:1 2:1 4:2
lag_seconds loop=0 worker=1 n=1 sum=0.5 1:1
lag_seconds loop=0 worker=2 n=2 sum=5 1:0
s_seconds n=3 sum=5.5
x_info 1
` {
		t.Errorf("one retired, another begun:\n%s", got)
	}
	s.Retire(one)
	if got := show(s.Total(nil)); strings.Contains(got, "g ") || !strings.Contains(got, "c_total kind=a 5.5\n") {
		t.Errorf("nobody runs:\n%s", got)
	}
}

// TestSumNeverFalls: amounts whose sum depends on the order by a rounding.
func TestSumNeverFalls(t *testing.T) {
	s, last := NewSum(), 0.0
	amounts := []float64{0.1, 0.7, 1e9, 0.3, 1e-7}
	for i := range 200 {
		var live []Source
		for k, v := range amounts {
			live = append(live, Source{fmt.Sprint(k), []*dto.MetricFamily{{Name: proto.String("c"), Type: dto.MetricType_COUNTER.Enum(),
				Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(v)}}}}}})
		}
		if i == 100 {
			s.Retire(live[0])
			live, amounts = live[1:], amounts[1:]
		}
		slices.Reverse(live[i%len(live):])
		now := s.Total(live)[0].Metric[0].Counter.GetValue()
		if now < last {
			t.Fatalf("fell from %v to %v", last, now)
		}
		last = now
	}
}

// TestSumOfTheMachine: each process counts the traffic of all, and its successor begins with it.
func TestSumOfTheMachine(t *testing.T) {
	s := NewSum()
	of := func(worker string, v float64) Source {
		return Source{worker, []*dto.MetricFamily{{Name: proto.String("process_network_receive_bytes_total"), Type: dto.MetricType_COUNTER.Enum(),
			Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(v)}}}}}}
	}
	two := of("2", 105)
	if got := show(s.Total([]Source{of("1", 100), two})); got != "process_network_receive_bytes_total 105\n" {
		t.Errorf("two workers: %s", got)
	}
	s.Retire(two)
	if got := show(s.Total([]Source{of("1", 120), of("2", 121)})); got != "process_network_receive_bytes_total 121\n" {
		t.Errorf("one came anew: %s", got)
	}
}

// TestSumBorrows: the sources are as they were, and a family whose type is disputed keeps its first.
func TestSumBorrows(t *testing.T) {
	s, one := NewSum("c_total"), process(1, 1)
	before := show(one)
	s.Retire(Source{"1", one})
	s.Total([]Source{{"1", one}, {"2", one}})
	disputed := []*dto.MetricFamily{{Name: proto.String("c_total"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(9)}}}}}
	if got := show(s.Total([]Source{{"3", disputed}})); !strings.HasPrefix(got, "c_total kind=a worker=1 2\nh") {
		t.Errorf("disputed:\n%s", got)
	}
	if after := show(one); after != before {
		t.Errorf("the source changed:\n%s\n%s", before, after)
	}
}

func TestMetricsOnTheWire(t *testing.T) {
	var b bytes.Buffer
	all := process(3, 1, 2)
	if err := Write(&b, all); err != nil {
		t.Fatal(err)
	}
	text := b.Bytes()
	got, err := Read(bytes.NewReader(text))
	if err != nil || show(got) != show(all) {
		t.Errorf("%v\n%s\n%s", err, show(got), show(all))
	}
	if got, err := Read(bytes.NewReader(text[:len(text)-3])); err == nil {
		t.Errorf("cut short: %s", show(got))
	}
	if _, err := Read(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0x7f})); err == nil {
		t.Error("a family of 34 GB")
	}
}
