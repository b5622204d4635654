package testkit

import (
	"bufio"
	"strconv"
	"strings"
)

// Metrics is a scrape: the value of each series.
type Metrics map[string]float64

// Metrics scrapes a role's metrics.
func (s *System) Metrics(role string) Metrics {
	s.t.Helper()
	status, body := s.Get(role, "/metrics")
	if status != 200 {
		s.t.Fatalf("metrics of %s: %d %s", role, status, body)
	}
	return parseMetrics(body)
}

func parseMetrics(body string) Metrics {
	m := Metrics{}
	for sc := bufio.NewScanner(strings.NewReader(body)); sc.Scan(); {
		line := sc.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			m[line[:at]] = v
		}
	}
	return m
}

// Sum adds up every series of a family, or the one series when name carries labels.
func (m Metrics) Sum(name string) float64 {
	sum := 0.0
	for series, v := range m {
		if family, _, _ := strings.Cut(series, "{"); series == name || family == name {
			sum += v
		}
	}
	return sum
}

// Max returns the largest series of a family.
func (m Metrics) Max(name string) (most float64) {
	for series, v := range m {
		if family, _, _ := strings.Cut(series, "{"); family == name {
			most = max(most, v)
		}
	}
	return most
}
