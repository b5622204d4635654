package disktest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// everyCut runs a scenario once to its end, counting syncs, and then once for each of them with the power cut before it. run brings
// the scenario on disk d to its end or to d.Cut, whichever is first, calls d.Off and d.PowerOn, and returns what is wrong then. Several
// run at once. It returns how many cuts were made and how many were wrong; report gets the first of these, one at a time.
func everyCut(run func(d *Disk) error, report func(cut int64, err error)) (cuts, wrong int64) {
	whole := NewDisk(0)
	if err := run(whole); err != nil {
		report(0, err)
		return 0, 1
	}
	cuts = whole.Syncs()
	var next, failures atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 { // mostly they wait for elections
		wg.Go(func() {
			for n := next.Add(1); n <= cuts; n = next.Add(1) {
				if err := run(NewDisk(n)); err != nil && failures.Add(1) <= 3 {
					mu.Lock()
					report(n, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return cuts, failures.Load()
}

// MustSurvive fails t unless run survives every cut.
func MustSurvive(t *testing.T, run func(d *Disk) error) {
	t.Helper()
	cuts, wrong := everyCut(run, func(n int64, err error) { t.Errorf("power cut before sync %d: %v", n, err) })
	t.Logf("%d syncs, %d cuts survived", cuts, cuts-wrong)
	if cuts < 20 {
		t.Errorf("a scenario with %d syncs shows little", cuts)
	}
}

// MustNotice fails t if run survives every cut: it is for scenarios with a planted fault.
func MustNotice(t *testing.T, run func(d *Disk) error) {
	t.Helper()
	var first error
	cuts, wrong := everyCut(run, func(n int64, err error) {
		if first == nil {
			first = fmt.Errorf("power cut before sync %d: %w", n, err)
		}
	})
	if wrong == 0 {
		t.Fatalf("%d cuts, and nothing was noticed", cuts)
	}
	t.Logf("%d of %d cuts noticed, such as: %v", wrong, cuts, first)
}
