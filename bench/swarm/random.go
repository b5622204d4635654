package swarm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// maxLettersEach bounds the letters of an order by engine: they are one line, of maxLine bytes at most, at about 80 bytes each.
const maxLettersEach = 500_000

// Random sends messages between random sessions of the whole fleet, each of which has been bound, and waits until all have arrived. Which
// arrived is known by number, not by count. Deliver stays empty: the ends have no clock in common when they are on two machines. Lost
// messages are an error as well.
func (f *Fleet) Random(ctx context.Context, messages, size int) (Traffic, error) {
	o := Range{Count: f.cfg.Sessions}
	parts, err := f.parts(o)
	if err != nil {
		return Traffic{}, err
	}
	if o.Count < 2 || messages < 1 || messages > maxLettersEach*len(parts) || size < MinSize {
		return Traffic{}, fmt.Errorf("swarm: %d messages of %d bytes among %d sessions of %d engines", messages, size, o.Count, len(parts))
	}
	run := newRun()
	orders, err := f.letters(ctx, parts, o, messages)
	if err != nil {
		return Traffic{}, err
	}
	if err := each(parts, func(_ int, p part) error {
		return p.r.soon(ctx, opExpect, expectation{Run: run, Letters: messages}, nil)
	}); err != nil {
		return Traffic{}, err
	}
	results := make([]Traffic, len(parts))
	err = each(parts, func(k int, p part) error {
		if len(orders[k]) == 0 {
			return nil
		}
		return p.r.do(ctx, opSend, Letters{Run: run, Size: size, List: orders[k]}, &results[k])
	})
	sum := sumTraffic(results)
	arrived, collectErr := collect(ctx, parts, run, int(sum.Acked))
	sum.Delivered, sum.Doubled, sum.Corrupt = uint64(arrived.Count), arrived.Doubled, arrived.Corrupt
	if sum.Delivered < sum.Acked {
		sum.Lost = sum.Acked - sum.Delivered
		err = errors.Join(err, fmt.Errorf("%w: %d of %d", errLost, sum.Lost, sum.Acked))
	}
	return sum, errors.Join(err, collectErr)
}

// letters draws the ends of messages and returns what each part is to send.
func (f *Fleet) letters(ctx context.Context, parts []part, o Range, messages int) ([][]Letter, error) {
	type end struct{ part, at int } // at: its place in the part's list of recipients
	orders, ends, wanted := make([][]Letter, len(parts)), make([][]end, len(parts)), make([][]int, len(parts))
	for number := range messages {
		from := rand.IntN(o.Count)
		to := (from + 1 + rand.IntN(o.Count-1)) % o.Count // anybody else
		a, b := partOf(parts, o.From+from), partOf(parts, o.From+to)
		orders[a] = append(orders[a], Letter{From: o.From + from - parts[a].r.first, Number: uint32(number)})
		ends[a] = append(ends[a], end{b, len(wanted[b])})
		wanted[b] = append(wanted[b], o.From+to-parts[b].r.first)
	}
	found := make([][]Address, len(parts))
	if err := each(parts, func(k int, p part) error { return p.r.soon(ctx, opAddresses, wanted[k], &found[k]) }); err != nil {
		return nil, err
	}
	for a := range orders {
		for i := range orders[a] {
			address := found[ends[a][i].part][ends[a][i].at]
			orders[a][i].Account, orders[a][i].Device = address.Account, address.Device
		}
	}
	return orders, nil
}

// partOf returns the part that holds a session of the fleet.
func partOf(parts []part, session int) int {
	for k, p := range parts {
		if session < p.r.first+p.r.count {
			return k
		}
	}
	return len(parts) - 1 // not reached: the session is in the range
}

// collect asks for arrivals until so many are there, or none has come for defaultDrain.
func collect(ctx context.Context, parts []part, run uint64, want int) (Arrivals, error) {
	moved, last := time.Now(), -1
	for {
		results := make([]Arrivals, len(parts))
		err := each(parts, func(k int, p part) error { return p.r.soon(ctx, opArrived, nil, &results[k]) })
		sum := Arrivals{Run: run}
		for _, r := range results {
			if r.Run == run {
				sum.Merge(r)
			}
		}
		if sum.Count != last {
			moved, last = time.Now(), sum.Count
		}
		if sum.Count >= want || err != nil || time.Since(moved) >= defaultDrain {
			return sum, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return sum, ctx.Err()
		}
	}
}
