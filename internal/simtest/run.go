package simtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"linecard.example/internal/stanza"
)

// Result is what became of one schedule.
type Result struct {
	Seed                  uint64
	Faults                []string // broken promises; none: it is well
	Sent, Acked, Received int
	Simulated             time.Duration
	Digest                uint64 // of the trace: equal for runs that went the same way
	Trace                 string
}

// Limits of simulated time.
const (
	setUpLimit = 2 * time.Minute
	drainLimit = 5 * time.Minute
)

// Run runs the schedule of a seed. It must be called in a synctest bubble of its own, and leaves no goroutine behind.
func Run(seed uint64, verbose bool) Result {
	w := newWorld(seed, verbose)
	for _, p := range w.procs {
		w.begin(func() { p.bounce(0, func(*process) {}) })
		time.Sleep(time.Millisecond) // one after the other, so that they always do it in the same order
	}
	for n := range gateways {
		w.startGateway(n, 1+uint64(n))
	}
	if w.settle() {
		w.suffer()
		w.drain()
	}
	w.judge()
	w.end()
	r := Result{Seed: seed, Faults: w.hist.Faults(nil), Simulated: time.Since(w.began)}
	r.Sent, r.Acked, r.Received = w.hist.Totals()
	r.Trace, r.Digest = w.trace()
	return r
}

// wait waits in simulated time until ok holds, at most for limit.
func (w *World) wait(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		w.mu.Lock()
		done := ok()
		w.mu.Unlock()
		if done {
			return true
		}
	}
	return false
}

// settle registers the accounts, and links a second device to the first one.
func (w *World) settle() bool {
	w.mu.Lock()
	for i := range w.plan.accounts {
		a := &account{handle: fmt.Sprintf("account%d", i)}
		w.accounts = append(w.accounts, a)
		d := newDevice(w, a, 1)
		d.judged = true
		w.devices = append(w.devices, d)
		d.connect()
		d.look()
	}
	first := w.devices[0]
	w.mu.Unlock()
	bound := func() bool { return !slices.ContainsFunc(w.devices, func(d *device) bool { return !d.bound }) }
	if !w.wait(setUpLimit, bound) {
		w.hist.Fault("not every account was registered within %v", setUpLimit)
		return false
	}
	w.mu.Lock()
	w.link(first).judged = true
	w.mu.Unlock()
	if !w.wait(setUpLimit, func() bool { return len(w.devices) > w.plan.accounts && bound() }) {
		w.hist.Fault("the second device was not linked within %v", setUpLimit)
		return false
	}
	return true
}

// link adds a device to the account of d. When the directory says that it is one, it connects at once, wherever. Under mu.
func (w *World) link(d *device) *device {
	n := newDevice(w, d.acc, len(d.acc.devices)+1)
	d.ask(w.dirOf(d.acc.number), stanza.Query{Op: stanza.OpLink, Key: n.key[:]}, func(r stanza.Result) {
		n.named(r.Device)
		w.note("%s: linked", n.label)
		w.devices = append(w.devices, n)
		n.connect()
		n.look()
	}, func(reason stanza.Reason) {
		w.hist.Fault("%s could not link a device: %v", d.label, reason)
	})
	return n
}

// register makes a new account. As soon as it is one, everybody finds it.
func (w *World) register() {
	a := &account{handle: fmt.Sprintf("late%d", len(w.accounts))}
	w.accounts = append(w.accounts, a)
	n := newDevice(w, a, 1)
	w.devices = append(w.devices, n)
	n.connect()
	n.look()
}

// suffer is the time with faults: everybody writes, and what is planned happens.
func (w *World) suffer() {
	w.mu.Lock()
	for _, d := range w.devices {
		d.live()
	}
	w.mu.Unlock()
	began := time.Now()
	for _, e := range w.plan.events {
		time.Sleep(e.at - time.Since(began))
		w.note("fault: %s", e.what)
		e.do(w)
	}
	time.Sleep(w.plan.length - time.Since(began))
	w.mu.Lock()
	w.quiet = true
	w.mu.Unlock()
	w.faults.Wait()
}

// maxLate bounds what is added to the directory in one schedule.
const maxLate = 16

// live has a device do something now and then.
func (d *device) live() {
	w := d.w
	if w.quiet || d.busy {
		return
	}
	add, look, pace := 3, 15, w.plan.pace
	if time.Now().Before(w.hurry) {
		add, look, pace = 10, 80, 10*time.Millisecond
	}
	room := len(w.accounts)+len(w.devices) < 2*w.plan.accounts+1+maxLate
	switch n := d.rnd.IntN(100); {
	case n < add && room && d.label != "":
		w.link(d)
	case n < 2*add && room:
		w.register()
	case n < 2*add+look:
		d.lookUp()
	case n < 2*add+look+3:
		d.hangUp(d.rnd.IntN(2) == 0)
	case n < 2*add+look+4:
		d.hangUp(true) // the application dies
		d.forget()
	default:
		to := w.accounts[d.rnd.IntN(len(w.accounts))]
		if to != d.acc || (len(to.devices) > 1 && to.devices[1].label != "") {
			d.write(to)
		}
	}
	d.busy = true
	w.after(time.Duration(d.rnd.Int64N(int64(2*pace)))|1, func() {
		d.busy = false
		d.live()
	})
}

// lookUp asks for an account that was registered before, for one of the last ones most often: it must be found.
func (d *device) lookUp() {
	a := d.w.accounts[len(d.w.accounts)-1]
	if d.rnd.IntN(3) == 0 || a.number == 0 {
		a = d.w.accounts[d.rnd.IntN(len(d.w.accounts))]
	}
	if a.number == 0 || !d.bound {
		return
	}
	d.ask(d.w.handleDir(a.handle), stanza.Query{Op: stanza.OpLookup, Handle: []byte(a.handle)}, func(r stanza.Result) {
		if r.Account != a.number {
			d.w.hist.Fault("%s found account %d under %s, which is %d", d.label, r.Account, a.handle, a.number)
		}
	}, func(reason stanza.Reason) {
		d.w.hist.Fault("%s looked for %s, which is registered, and was told %v", d.label, a.handle, reason)
	})
}

// drain waits until everything is back, and everybody has what is his.
func (w *World) drain() {
	began := time.Now()
	done := w.wait(drainLimit, func() bool {
		for _, d := range w.devices {
			if len(d.out) > 0 || !d.bound || len(d.asking) > 0 {
				return false
			}
		}
		for to, list := range w.judged() {
			if w.hist.Waiting(to, list...) > 0 {
				return false
			}
		}
		return true
	})
	w.note("drained: %v, after %v", done, time.Since(began))
	if !done {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, d := range w.devices {
			if len(d.out) > 0 || !d.bound || len(d.asking) > 0 {
				w.hist.Fault("%s of %s is not served %v after the last fault: bound %v, %d messages without an answer, %d queries",
					d.label, d.acc.handle, drainLimit, d.bound, len(d.out), len(d.asking))
			}
		}
	}
}

// judged returns who must have everything that is acked. Under mu.
func (w *World) judged() map[string][]string {
	who := map[string][]string{}
	for _, d := range w.devices {
		if !d.judged {
			continue
		}
		who[d.acc.handle] = append(who[d.acc.handle], d.label)
		for _, other := range d.acc.devices {
			if other != d && other.label != "" {
				to := other.stream(d.acc).To
				who[to] = append(who[to], d.label)
			}
		}
	}
	return who
}

// judge compares the replicas and has the history judged.
func (w *World) judge() {
	for _, first := range []int{0, machines} {
		var why string
		for end := time.Now().Add(drainLimit); time.Now().Before(end); time.Sleep(time.Second) {
			if why = w.differ(w.procs[first : first+machines]); why == "" {
				break
			}
		}
		if why != "" {
			w.hist.Fault("replicas differ: %s", why)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hist.Faults(w.judged())
}

// differ says how replicas differ, "" if they do not.
func (w *World) differ(replicas []*process) string {
	var first []uint64
	for i, p := range replicas {
		p.turn <- struct{}{}
		var hashes []uint64
		if p.run != nil {
			all, err := p.run.host.Hashes(context.Background())
			if err != nil {
				w.note("%s: no hash: %v", p.name, err)
			}
			for _, x := range all {
				hashes = append(hashes, x.Hash)
			}
		}
		<-p.turn
		if i == 0 {
			first = hashes
		}
		if len(hashes) != w.plan.shards || !slices.Equal(first, hashes) {
			return fmt.Sprintf("%s has %x, %s has %x", replicas[0].name, first, p.name, hashes)
		}
	}
	return ""
}

// end stops everything.
func (w *World) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.faults.Wait()
	for _, p := range w.procs {
		p.turn <- struct{}{}
		p.stop()
		<-p.turn
	}
	w.mu.Lock()
	gws := w.gws
	w.mu.Unlock()
	for _, g := range gws {
		if g != nil {
			g.crash()
		}
	}
	time.Sleep(time.Minute) // timers that were set run out
}
