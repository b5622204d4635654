// Package metrics makes the process's Prometheus registry and the counters that several daemons share: one counter per
// reason, resolved beforehand, so that counting on a hot path is one atomic addition.
//
// There is no label with an account, a device or an address in it: the number of series is fixed by the code.
// Everything here is safe for concurrent use.
package metrics

import (
	"regexp"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"linecard.example/internal/stanza"
)

// cpuClasses adds what the runtime thinks its CPU time went to: go_cpu_classes_gc_total_cpu_seconds_total beside that of all and that of
// nothing, idle. The runtime counts time that it had a processor, not time that the kernel gave it one, so they compare with each other
// only. It brings them up to date at the end of each collection.
var cpuClasses = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/cpu/classes/(gc/total|total|idle):cpu-seconds$`)}

// NewRegistry returns a registry that already collects the Go runtime, the process and linecard_build_info.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(cpuClasses)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	version, revision := Build()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "linecard_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision},
	}, func() float64 { return 1 }))
	return reg
}

// Build returns the module version and the source revision that the binary was built from, "unknown" where Go did not record them.
func Build() (version, revision string) {
	version, revision = "unknown", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, revision
	}
	version = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return version, revision
}

// Reasons is one counter per reason of the closed enumeration.
type Reasons struct {
	counters []prometheus.Counter // by reason number
}

// NewReasons registers the counter vector name with the label reason and resolves a counter for each known reason.
func NewReasons(reg prometheus.Registerer, name, help string) *Reasons {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"reason"})
	reg.MustRegister(vec)
	r := &Reasons{}
	for _, reason := range stanza.Reasons {
		for len(r.counters) <= int(reason) {
			r.counters = append(r.counters, nil)
		}
		r.counters[reason] = vec.WithLabelValues(reason.String())
	}
	return r
}

// Inc counts one event with the reason; a number outside of the enumeration counts as internal.
func (r *Reasons) Inc(reason stanza.Reason) {
	if int(reason) >= len(r.counters) || r.counters[reason] == nil {
		reason = stanza.ReasonInternal
	}
	r.counters[reason].Inc()
}
