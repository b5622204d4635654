package bench

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"linecard.example/bench/report"
)

// notName is what a file's name is better without.
var notName = regexp.MustCompile(`[^a-z0-9]+`)

// profiles takes a CPU profile of every server while the caller goes on, if the options ask for it. finish waits for their ends and reports
// what costs what, perUnit being the CPU time of all servers for a unit in microseconds.
func (r *run) profiles(name string, d time.Duration) (finish func(perUnit float64)) {
	if !r.o.Profile || len(r.sys.daemons) == 0 {
		return func(float64) {}
	}
	type result struct {
		name, file string
		err        error
	}
	done := make(chan result, len(r.sys.daemons))
	for _, daemon := range r.sys.daemons {
		file := filepath.Join(r.o.Out, notName.ReplaceAllString(name, "-")+"-"+daemon.name+".pprof")
		url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", daemon.admin, max(1, int(d.Seconds())))
		go func() { done <- result{daemon.name, file, fetch(url, file, d+30*time.Second)} }()
	}
	return func(perUnit float64) {
		var files []string
		for range r.sys.daemons {
			if got := <-done; got.err != nil {
				r.rep.Note(fmt.Sprintf("no profile of %s: %v", got.name, got.err))
			} else {
				files = append(files, got.file)
			}
		}
		r.shares(name, files, perUnit)
	}
}

// shares adds a table of what costs what, over the profiles of all servers together.
func (r *run) shares(name string, files []string, perUnit float64) {
	if len(files) == 0 {
		return
	}
	traces, err := exec.Command("go", append([]string{"tool", "pprof", "-traces"}, files...)...).Output()
	if err != nil {
		r.rep.Note("no table of what costs what, which needs the Go tools: " + err.Error())
		return
	}
	all, err := sharesOf(traces)
	if err != nil {
		r.rep.Note(err.Error())
		return
	}
	t := report.Table{Title: name + ": what costs what, by profile", Header: []string{"work", "share", "per unit"}}
	for _, s := range all {
		t.Rows = append(t.Rows, []string{s.name, fmt.Sprintf("%.1f %%", 100*s.share), fmt.Sprintf("%.2f us", s.share*perUnit)})
	}
	r.rep.Tables = append(r.rep.Tables, t)
}

func fetch(url, file string, within time.Duration) error {
	client := http.Client{Timeout: within}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errProfile, resp.Status)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := f.ReadFrom(resp.Body); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
