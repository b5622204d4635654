package bench

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"linecard.example/bench/meter"
)

// part is what the processes of one kind hold and use: gateway (the supervisor and its workers), router, offline, or up for all in one.
type part struct {
	Name      string
	Processes int
	Usage     meter.Usage
	Memory    meter.Memory
}

// parts are the servers at a moment.
type parts []part

func (p parts) usage() (sum meter.Usage) {
	for _, a := range p {
		sum = sum.Plus(a.Usage)
	}
	return sum
}

func (p parts) memory() (sum meter.Memory) {
	for _, a := range p {
		sum = sum.Plus(a.Memory)
	}
	return sum
}

// pss is what all servers hold; NaN, which no figure takes, where not all of them tell.
func pss(p parts) float64 {
	if !p.whole() {
		return math.NaN()
	}
	return float64(p.memory().PSS)
}

func (p parts) part(name string) part {
	for _, a := range p {
		if a.Name == name {
			return a
		}
	}
	return part{Name: name}
}

func (p parts) has(name string) bool {
	return slices.ContainsFunc(p, func(a part) bool { return a.Name == name })
}

// whole reports whether these are all servers: of those elsewhere only the ones whose admin listeners were named are looked at.
func (p parts) whole() bool {
	return p.has("up") || p.has("gateway") && p.has("router") && p.has("offline")
}

// processes returns the processes of each server here, in the order of daemons; none of one that does not run.
func (s *system) processes() ([][]int, error) {
	all := make([][]int, len(s.daemons))
	var roots, at []int
	for i, d := range s.daemons {
		if d.running() {
			roots, at = append(roots, d.cmd.Process.Pid), append(at, i)
		}
	}
	trees, err := meter.Trees(roots)
	for i := range trees {
		all[at[i]] = trees[i]
	}
	return all, err
}

// pids returns the processes of all servers here.
func (s *system) pids() ([]int, error) {
	all, err := s.processes()
	return slices.Concat(all...), err
}

// living returns the bytes of living objects of each server by part. It has them collect their garbage, twice, since what the first
// collection finds out of use the second returns.
func (s *system) living() (map[string]float64, error) {
	all := map[string]float64{}
	for part, addrs := range s.byPart() {
		for _, addr := range addrs {
			if err := errors.Join(collect(addr), collect(addr)); err != nil {
				return nil, err
			}
			m, err := scrape(addr)
			if err != nil {
				return nil, err
			}
			all[part] += m.sum("go_memstats_heap_alloc_bytes")
		}
	}
	return all, nil
}

// look reads what the servers use and, where asked for, what they hold, which takes long with many processes.
func (s *system) look(memory bool) (all parts, err error) {
	if s.dir == "" {
		return s.lookElsewhere()
	}
	pids, err := s.processes()
	if err != nil {
		return nil, err
	}
	for i, d := range s.daemons {
		p := part{Name: d.part, Processes: len(pids[i])}
		if p.Usage, err = meter.UsageOf(pids[i]); err != nil {
			return nil, err
		}
		if memory {
			if p.Memory, err = meter.MemoryOf(pids[i]); err != nil {
				return nil, err
			}
		}
		all = all.plus(p)
	}
	return all, nil
}

// plus adds a process, or processes, to the part that it is of.
func (p parts) plus(o part) parts {
	for i := range p {
		if p[i].Name == o.Name {
			p[i].Processes += o.Processes
			p[i].Usage, p[i].Memory = p[i].Usage.Plus(o.Usage), p[i].Memory.Plus(o.Memory)
			return p
		}
	}
	return append(p, o)
}

// partNames are the parts that servers elsewhere can be.
var partNames = []string{"up", "gateway", "router", "offline"}

// lookElsewhere reads what servers on other machines say of themselves: resident memory, and CPU time.
func (s *system) lookElsewhere() (all parts, err error) {
	for _, name := range partNames {
		p := part{Name: name}
		for _, addr := range s.admins[name] {
			m, err := scrape(addr)
			if err != nil {
				return nil, err
			}
			p.Processes++
			rss := int64(m.sum("process_resident_memory_bytes"))
			p.Memory = p.Memory.Plus(meter.Memory{RSS: rss, PSS: rss, Shared: true})
			p.Usage.User += time.Duration(m.sum("process_cpu_seconds_total") * float64(time.Second))
		}
		if p.Processes > 0 {
			all = append(all, p)
		}
	}
	return all, nil
}

// byPart returns the admin listeners of all servers by their part.
func (s *system) byPart() map[string][]string {
	if s.dir == "" {
		return s.admins
	}
	all := map[string][]string{}
	for _, d := range s.daemons {
		all[d.part] = append(all[d.part], d.admin)
	}
	return all
}

// counters adds up the metrics of all servers, their labels left out.
func (s *system) counters() (counters, error) {
	total := counters{}
	for _, addrs := range s.byPart() {
		for _, addr := range addrs {
			m, err := scrape(addr)
			if err != nil {
				return nil, err
			}
			for name, v := range m {
				total[name] += v
			}
		}
	}
	return total, nil
}

// counters are metrics by name, added up over their labels.
type counters map[string]float64

func (c counters) sum(name string) float64 { return c[name] }

// since returns how much a counter has grown.
func (c counters) since(before counters, name string) float64 { return c[name] - before[name] }

// maxScrape bounds a page of metrics in bytes.
const maxScrape = 8 << 20

func scrape(addr string) (counters, error) {
	text, err := metricsPage(addr)
	return parseMetrics(text), err
}

func metricsPage(addr string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + addr + "/metrics")
	if err != nil {
		return "", fmt.Errorf("bench: metrics: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxScrape))
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("bench: metrics of %s: %s, %w", addr, resp.Status, err)
	}
	return string(text), nil
}

func parseMetrics(text string) counters {
	m := counters{}
	eachSeries(text, func(name, _ string, v float64) { m[name] += v })
	return m
}

// eachSeries calls f for every series of a page of metrics; labels are as they stand between the braces.
func eachSeries(text string, f func(name, labels string, v float64)) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		name, labels, _ := strings.Cut(line[:at], "{")
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			f(name, strings.TrimSuffix(labels, "}"), v)
		}
	}
}

// collect forces a garbage collection in a server; its profile of the heap is thrown away.
func collect(addr string) error {
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Get("http://" + addr + "/debug/pprof/heap?gc=1")
	if err != nil {
		return fmt.Errorf("bench: collection: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("bench: collection: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: collection: %s", errOptions, resp.Status)
	}
	return nil
}
