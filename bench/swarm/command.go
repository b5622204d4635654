package swarm

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Open connects sessions and waits until each of them is bound or has stopped. Rate is that of the whole fleet.
func (f *Fleet) Open(ctx context.Context, o Open) (Opened, error) {
	parts, err := f.parts(o.Range)
	if err != nil {
		return Opened{}, err
	}
	together := f.together()
	if o.Rate > 0 {
		together = len(parts)
	}
	began := time.Now()
	results := make([]Opened, len(parts))
	err = inTurn(max(1, together), parts, func(k int, p part) error {
		return p.r.do(ctx, opOpen, Open{Range: p.local, Mode: o.Mode, Rate: o.Rate * p.share, Far: o.Far}, &results[k])
	})
	var sum Opened
	for _, r := range results {
		sum.add(&r)
	}
	sum.Asked, sum.Elapsed = o.count(), time.Since(began)
	return sum, err
}

// Hangup ends sessions for good.
func (f *Fleet) Hangup(ctx context.Context, o Range) error {
	return f.tell(ctx, o, opHangup, func(p part) any { return p.local })
}

// Slow stops reading on sessions, or reads again.
func (f *Fleet) Slow(ctx context.Context, o Slow) error {
	return f.tell(ctx, o.Range, opSlow, func(p part) any { return Slow{Range: p.local, Off: o.Off} })
}

// tell gives an order that has no result.
func (f *Fleet) tell(ctx context.Context, o Range, op string, order func(part) any) error {
	parts, err := f.parts(o)
	if err != nil {
		return err
	}
	return each(parts, func(_ int, p part) error { return p.r.soon(ctx, op, order(p), nil) })
}

// Cut ends connections at once on all engines and waits until the sessions are back.
func (f *Fleet) Cut(ctx context.Context, o Cut) (Storm, error) {
	parts, err := f.parts(o.Range)
	if err != nil {
		return Storm{}, err
	}
	results, err := gather[Storm](ctx, parts, opCut, func(p part) any {
		return Cut{Range: p.local, Mode: o.Mode, Reset: o.Reset}
	})
	sum := Storm{Closes: map[string]uint64{}}
	for _, r := range results {
		sum.Opened.add(&r.Opened)
		sum.Lost += r.Lost
		sum.Back.Merge(r.Back)
		addCounts(sum.Closes, r.Closes)
	}
	return sum, err
}

// Pairs makes traffic. Pairs never span two engines: their latencies are by one clock. Rate is that of the whole fleet.
func (f *Fleet) Pairs(ctx context.Context, o Pairs) (Traffic, error) {
	if o.From%2 != 0 {
		return Traffic{}, fmt.Errorf("swarm: pairs from session %d: want an even number", o.From)
	}
	parts, err := f.parts(o.Range)
	if err != nil {
		return Traffic{}, err
	}
	for k := range parts { // an odd one at the end of all
		if parts[k].local.Count < 2 {
			parts = parts[:k]
			break
		}
	}
	results, err := gather[Traffic](ctx, parts, opPairs, func(p part) any {
		own := o
		own.Range, own.Rate = p.local, o.Rate*p.share
		return own
	})
	return sumTraffic(results), err
}

// Finish has the Pairs under way among the sessions of a range begin no further messages.
func (f *Fleet) Finish(ctx context.Context, o Range) error {
	return f.tell(ctx, o, opFinish, func(part) any { return nil })
}

// Report returns how the messages of the last Pairs fare by now, over all engines that had a part in it; those that had none say so in
// the error.
func (f *Fleet) Report(ctx context.Context, o Range) (Traffic, error) {
	parts, err := f.parts(o)
	if err != nil {
		return Traffic{}, err
	}
	results, err := gather[Traffic](ctx, parts, opReport, func(part) any { return nil })
	return sumTraffic(results), err
}

// Ping has sessions ping at once and waits for the pongs.
func (f *Fleet) Ping(ctx context.Context, o Ping) (Pinged, error) {
	parts, err := f.parts(o.Range)
	if err != nil {
		return Pinged{}, err
	}
	results, err := gather[Pinged](ctx, parts, opPing, func(p part) any { return Ping{Range: p.local, Rate: o.Rate * p.share} })
	var sum Pinged
	for _, r := range results {
		sum.Asked += r.Asked
		sum.Pongs += r.Pongs
		sum.Elapsed = max(sum.Elapsed, r.Elapsed)
		sum.RTT.Merge(r.RTT)
	}
	return sum, err
}

// Counters returns the sum of all engines' totals. It asks them; the error joins those of engines that did not answer.
func (f *Fleet) Counters(ctx context.Context) (Counters, error) {
	parts := f.all()
	results := make([]Counters, len(parts))
	failed := make([]bool, len(parts))
	err := each(parts, func(k int, p part) error {
		err := p.r.soon(ctx, opCounters, nil, &results[k])
		failed[k] = err != nil && ctx.Err() == nil
		return err
	})
	sum := Counters{Lost: map[string]uint64{}, Failed: map[string]uint64{}}
	for k := range results {
		sum.add(&results[k])
		if failed[k] {
			sum.Dead = append(sum.Dead, parts[k].r.name)
			sum.Lost["engine"] += uint64(parts[k].r.count)
		}
	}
	return sum, err
}

// Memory returns the sum over the engines.
func (f *Fleet) Memory(ctx context.Context) (Memory, error) {
	results, err := gather[Memory](ctx, f.all(), opMemory, func(part) any { return nil })
	var sum Memory
	for _, r := range results {
		sum.Slots += r.Slots
		sum.Tickets += r.Tickets
		sum.Heap += r.Heap
		sum.PSS += r.PSS
		sum.Base += r.Base
	}
	return sum, err
}

// errLost says that an order's messages were not all there at its end; the Traffic beside it says how many.
var errLost = errors.New("swarm: messages were lost")
