package disktest

import (
	"sync"
	"sync/atomic"
	"testing"
)

// everyCut runs a scenario once to its end, counting syncs (to report as cut 0), and then once for each of them, or for each stride-th,
// with the power cut before it. run brings the scenario on disk d to its end or to d.Cut, whichever is first, calls d.Off and
// d.PowerOn, and returns what is wrong then. Several run at once. It returns how many cuts were made and how many were wrong; report
// gets these, one at a time.
func everyCut(run func(d *Disk) error, stride int64, report func(cut int64, err error)) (cuts, wrong int64) {
	var next, failures atomic.Int64
	whole := NewDisk(0)
	if err := run(whole); err != nil {
		failures.Add(1)
		report(0, err)
	}
	syncs := whole.Syncs()
	next.Store(1 - stride)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 { // mostly they wait for elections
		wg.Go(func() {
			for n := next.Add(stride); n <= syncs; n = next.Add(stride) {
				if err := run(NewDisk(n)); err != nil {
					failures.Add(1)
					mu.Lock()
					report(n, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return (syncs + stride - 1) / stride, failures.Load()
}

// MustSurvive fails t unless run survives every cut; every fifth with -short, which is for the race detector.
func MustSurvive(t *testing.T, run func(d *Disk) error) {
	t.Helper()
	shown, stride := 0, int64(1)
	if testing.Short() {
		stride = 5
	}
	cuts, wrong := everyCut(run, stride, func(n int64, err error) {
		if shown++; shown <= 3 {
			t.Errorf("power cut before sync %d (0: at the end): %v", n, err)
		}
	})
	t.Logf("%d cuts, %d not survived", cuts, wrong)
	if cuts*stride < 50 {
		t.Errorf("a scenario with %d syncs shows little", cuts*stride)
	}
}
