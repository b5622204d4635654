package gateway

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	reasons "linecard.example/internal/metrics"
)

// apart are the families that keep a label with the worker.
var apart = []string{"linecard_gateway_sessions", "linecard_gateway_loop_lag_seconds", "process_resident_memory_bytes",
	"linecard_cluster_roster_version", "linecard_cluster_members", "linecard_link_certificate_seconds"}

// totals are the metrics of all workers and of their supervisor. Safe for concurrent use.
type totals struct {
	s        *Supervisor
	own      prometheus.Gatherer
	restarts *prometheus.CounterVec

	asking sync.Mutex // one collection at a time, so that an older one never overtakes

	mu   sync.Mutex
	sum  *reasons.Sum
	live map[*worker]struct{}
}

func newTotals(s *Supervisor, reg prometheus.Registerer) *totals {
	t := &totals{s: s, sum: reasons.NewSum(apart...), live: map[*worker]struct{}{}}
	t.own, _ = reg.(prometheus.Gatherer)
	t.restarts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "linecard_gateway_worker_restarts_total", Help: "Workers that ended by themselves and were started again.",
	}, []string{reasons.WorkerLabel})
	workers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "linecard_gateway_workers", Help: "Worker processes that are meant to run.",
	}, func() float64 { return float64(len(s.slots)) })
	ready := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "linecard_gateway_workers_ready", Help: "Worker processes that serve clients.",
	}, func() float64 { return float64(len(s.Answer("/readyz"))) })
	reg.MustRegister(t.restarts, workers, ready)
	for _, at := range s.slots {
		t.restarts.WithLabelValues(slotName(at.n))
	}
	return t
}

func (t *totals) restarted(n int) { t.restarts.WithLabelValues(slotName(n)).Inc() }

func (t *totals) enter(w *worker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live[w] = struct{}{}
}

// retire moves what an ended worker had counted to the part of the sum that stays.
func (t *totals) retire(w *worker) {
	last := w.metricsKept()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.live[w]; ok {
		delete(t.live, w)
		t.sum.Retire(reasons.Source{Worker: w.label(), Families: last})
	}
}

// Gather implements prometheus.Gatherer: the metrics of all workers and of this process, summed up. A worker that does not answer
// within askLimit counts as when it last did.
func (s *Supervisor) Gather() ([]*dto.MetricFamily, error) {
	t := s.totals
	t.asking.Lock()
	defer t.asking.Unlock()
	var asked sync.WaitGroup
	for _, w := range t.running() {
		asked.Go(w.fetchMetrics)
	}
	asked.Wait()
	var own []*dto.MetricFamily
	var err error
	if t.own != nil {
		own, err = t.own.Gather()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	sources := []reasons.Source{{Worker: "supervisor", Families: own}}
	for w := range t.live {
		sources = append(sources, reasons.Source{Worker: w.label(), Families: w.metricsKept()})
	}
	return t.sum.Total(sources), err
}

func (t *totals) running() (all []*worker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.live {
		all = append(all, w)
	}
	return all
}

// Answer returns the slots whose workers answer a check page (/readyz, /healthz) with yes, asking all at once.
func (s *Supervisor) Answer(page string) (slots []int) {
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, at := range s.slots {
		w := at.get()
		if w == nil {
			continue
		}
		asked.Go(func() {
			if w.ask(page) {
				mu.Lock()
				defer mu.Unlock()
				slots = append(slots, at.n)
			}
		})
	}
	asked.Wait()
	return slots
}

// PIDs returns the process of each slot that has one.
func (s *Supervisor) PIDs() map[int]int {
	pids := map[int]int{}
	for _, at := range s.slots {
		if w := at.get(); w != nil {
			pids[at.n] = w.cmd.Process.Pid
		}
	}
	return pids
}

// Workers is how many there should be.
func (s *Supervisor) Workers() int { return len(s.slots) }

// ServeHTTP passes a request for /worker/N/PAGE on to that worker's own admin pages.
func (s *Supervisor) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("worker"))
	w := s.current(n)
	if err != nil || w == nil {
		http.Error(rw, fmt.Sprintf("no worker %q runs; there are %d slots", r.PathValue("worker"), len(s.slots)), http.StatusNotFound)
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "worker"
			p.Out.URL.Path, p.Out.URL.RawPath = "/"+r.PathValue("page"), ""
		},
		Transport: w.pages.Transport,
	}
	proxy.ServeHTTP(rw, r)
}
