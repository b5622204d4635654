package testkit

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// loadSize is how large a load test is.
type loadSize struct {
	pairs     int // of sender and recipient, all connected all the time
	slowIn    int // of these with a slow recipient
	slowOut   int // and with a slow sender
	vanishers int
	warm, run time.Duration
	every     time.Duration // between two looks
}

// loadSizes: the whole thing in the long run, a tenth of it in CI.
func loadSizes() loadSize {
	if os.Getenv("LINECARD_LONG") != "" {
		return loadSize{pairs: 1000, slowIn: 400, slowOut: 100, vanishers: 200, warm: 20 * time.Second, run: 2 * time.Minute, every: time.Second}
	}
	return loadSize{pairs: 100, slowIn: 40, slowOut: 10, vanishers: 20, warm: 4 * time.Second, run: 10 * time.Second, every: 250 * time.Millisecond}
}

// Bounds that the load test's server is configured with; the queues are as short as they may be, so that those of slow clients fill.
const (
	loadQueue     = 64 // entries of a device
	loadSlowBody  = 8 << 10
	loadOutbound  = 512 << 10 // more than a window, which is as large as may be: the kernel takes a part of it
	loadWindow    = "window_ids = 64\nwindow_bytes = \"504KiB\"\n"
	loadGateway   = "outbound_cap = \"512KiB\"\n"
	loadOffline   = "queue_entries = 64\nfull_retry_after = \"1s\"\nwindow_entries = 64\nwindow_bytes = \"504KiB\"\n"
	loadRetained  = 1 << 30 // bytes of the data directory
	loadHeapSlack = 64 << 20
	loadMemtables = 64 << 20 // of a database; they fill and empty in turn
	loadFiles     = 1000     // what is open besides sockets: tables and logs
)

// TestLoad keeps a server flat out, with slow clients and clients that vanish among the others, and looks at it all the time: memory and
// disk stay flat, whatever is bounded stays within its bound, the fast clients get equal shares, nothing is lost or doubled, and
// when all have gone nothing of them is left.
func TestLoad(t *testing.T) {
	l := newLoadTest(t, loadSizes())
	before := l.look()
	l.connect()
	l.on.Store(true)
	l.slow.Store(true)
	for _, f := range l.flows {
		f.kick()
	}
	l.vanish.start()
	l.rest(l.size.warm)
	start := l.delivered()
	looks := l.watch()
	l.shares(start, l.delivered())
	l.bounded(looks)
	l.flat(looks)
	l.settle()
	l.gone(before)
}

type loadTest struct {
	t      *testing.T
	s      *System
	p      *Process
	size   loadSize
	flows  []*flow // fast ones, then those with a slow recipient, then those with a slow sender
	fast   int
	vanish *vanishers

	on, slow atomic.Bool

	mu     sync.Mutex
	faults []error
	bad    chan struct{} // closed with the first
}

func newLoadTest(t *testing.T, size loadSize) *loadTest {
	s := Start(t, Together, Settings{Gateway: crowd + loadWindow + loadGateway, Router: loadWindow, Offline: loadOffline})
	return &loadTest{t: t, s: s, p: s.Process("up"), size: size, fast: size.pairs - size.slowIn - size.slowOut, bad: make(chan struct{})}
}

// fault notes what must not happen.
func (l *loadTest) fault(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) == 0 {
		close(l.bad)
	}
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, err)
	}
}

func (l *loadTest) check() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) > 0 {
		l.t.Fatal(errors.Join(l.faults...))
	}
}

// rest lets the load run.
func (l *loadTest) rest(d time.Duration) {
	l.t.Helper()
	select {
	case <-time.After(d):
	case <-l.bad:
	}
	l.check()
}

// connect registers everybody.
func (l *loadTest) connect() {
	l.t.Helper()
	site, err := l.s.Site(l.size.warm + l.size.run + 5*waitLimit)
	must(l.t, err)
	for i := range l.size.pairs {
		a, err := site.NewLean(fmt.Sprintf("a%d", i))
		must(l.t, err)
		b, err := site.NewLean(fmt.Sprintf("b%d", i))
		must(l.t, err)
		size, byAcks := smallBody, false
		switch {
		case i < l.fast:
		case i < l.fast+l.size.slowIn:
			size, byAcks, b.Dialer = loadSlowBody, true, slowDial(&l.slow)
		default:
			a.Dialer = slowDial(&l.slow)
		}
		f := newFlow(a, b, size, byAcks, &l.on, l.fault)
		if byAcks {
			b.Hooks.Ended = f.comeBack
		}
		l.flows = append(l.flows, f)
	}
	parallel(l.t, 2*len(l.flows), 64, func(i int) error {
		f := l.flows[i/2]
		return []*Lean{f.a, f.b}[i%2].Connect()
	})
	l.vanish, err = newVanishers(l.s.Server, l.size.vanishers, l.fault)
	must(l.t, err)
}

func (l *loadTest) delivered() (n []uint64) {
	for _, f := range l.flows {
		_, d := f.progress()
		n = append(n, d)
	}
	return n
}

// loadLook is what was seen of the server at a moment.
type loadLook struct {
	m     Metrics
	rss   int64 // bytes
	socks int
	files int
	data  int64 // bytes on disk
}

func (l *loadTest) look() loadLook {
	l.t.Helper()
	k := loadLook{m: l.s.Metrics("up"), rss: l.p.ProcNumber("status", "VmRSS:") << 10, data: l.s.DataSize()}
	k.socks, k.files = l.p.Descriptors()
	return k
}

// watch looks at the server until the time is over.
func (l *loadTest) watch() (looks []loadLook) {
	l.t.Helper()
	for end := time.Now().Add(l.size.run); time.Now().Before(end); l.rest(l.size.every) {
		looks = append(looks, l.look())
	}
	return looks
}

// shares judges what the fast recipients got: each within a factor of two of the mean.
func (l *loadTest) shares(from, to []uint64) {
	l.t.Helper()
	var sum, slowed uint64
	least, most := ^uint64(0), uint64(0)
	for i := range l.flows {
		n := to[i] - from[i]
		if i >= l.fast {
			slowed += n
			continue
		}
		sum, least, most = sum+n, min(least, n), max(most, n)
	}
	mean := float64(sum) / float64(l.fast)
	l.t.Logf("%d fast pairs: %d messages, %.0f a second; of each %.0f on average, %d at least, %d at most; %d pairs with a slow end: %d messages",
		l.fast, sum, float64(sum)/l.size.run.Seconds(), mean, least, most, len(l.flows)-l.fast, slowed)
	if mean < 20 {
		l.t.Errorf("only %.0f messages for each fast pair: too few to show anything", mean)
	}
	if float64(least) < mean/2 || float64(most) > 2*mean {
		l.t.Errorf("shares of the fast clients are from %d to %d, the mean is %.0f", least, most, mean)
	}
	if slowed == 0 {
		l.t.Error("slow clients got nothing")
	}
}

// loadBound is a bound that a look is held against: of the sum over a family's series, or of each of them.
type loadBound struct {
	family string
	each   bool
	bound  float64
}

// bounded judges everything that has a bound, in every look.
func (l *loadTest) bounded(looks []loadLook) {
	l.t.Helper()
	slow := float64(l.size.slowIn + l.size.slowOut + l.size.vanishers)
	// A vanished client may count as slow until its connection has ended; it and those it left behind are few.
	lagging := slow + float64(keepSilent*l.size.vanishers)
	entries := loadQueue*slow + 4*flowAhead*float64(2*l.size.pairs)
	most := map[string]float64{}
	for _, b := range []loadBound{
		{"linecard_gateway_sessions", false, float64(2*l.size.pairs + l.size.vanishers)},
		{"linecard_gateway_handshake_queue", false, 2 * 4096},
		{"linecard_gateway_outbound_sessions", false, lagging},
		{"linecard_gateway_outbound_bytes", false, 3 * loadOutbound * lagging},
		{"linecard_gateway_outbound_peak_bytes", false, 3 * loadOutbound},
		{"linecard_gateway_partial_bytes", false, 64 << 20},
		{"linecard_gateway_unanswered_messages", false, 2 * loadQueue * float64(2*l.size.pairs+l.size.vanishers)},
		{"linecard_link_used_bytes", true, 32 * 4 << 20},
		{"linecard_link_unhandled_bytes", true, 32 * 4 << 20},
		{"linecard_offline_attachments", false, float64(2*l.size.pairs + l.size.vanishers)},
		{"linecard_offline_queue_entries", false, entries},
		{"linecard_offline_queue_bytes", false, float64(l.size.slowIn)*loadQueue*(loadSlowBody+128) + entries*512},
		{"linecard_offline_cache_bytes", true, 32 << 20},
		{"linecard_offline_shard_pending_bytes", true, 4 << 20},
		{"linecard_offline_shard_packs_in_flight", true, 4},
		{"linecard_router_shard_pending_bytes", true, 4 << 20},
		{"linecard_router_shard_packs_in_flight", true, 4},
	} {
		for _, k := range looks {
			n := k.m.Sum(b.family)
			if b.each {
				n = k.m.Max(b.family)
			}
			most[b.family] = max(most[b.family], n)
		}
		m := most[b.family]
		l.t.Logf("%-45s at most %12.0f, bound %12.0f", b.family, m, b.bound)
		if m > b.bound {
			l.t.Errorf("%s reached %.0f, more than %.0f", b.family, m, b.bound)
		}
	}
	for family, least := range map[string]float64{
		"linecard_gateway_outbound_sessions": float64(l.size.slowIn) / 4,
		"linecard_offline_queue_entries":     float64(l.size.slowIn) * loadQueue / 2,
	} {
		if m := most[family]; m < least {
			l.t.Errorf("%s reached %.0f: the slow clients were not slow", family, m)
		}
	}
}

// flat judges growth: the most of the last third of the looks may be a quarter and some slack above the most of the first third. What
// follows compactions is only held against a bound.
func (l *loadTest) flat(looks []loadLook) {
	l.t.Helper()
	third := len(looks) / 3
	for _, q := range []struct {
		name  string
		of    func(loadLook) float64
		slack float64 // of growth, beside a quarter; negative: only the bound counts
		bound float64
	}{
		{"resident bytes", func(k loadLook) float64 { return float64(k.rss) }, loadMemtables, 2 << 30},
		{"heap bytes in use", func(k loadLook) float64 { return k.m.Sum("go_memstats_heap_inuse_bytes") }, loadMemtables, 2 << 30},
		{"goroutines", func(k loadLook) float64 { return k.m.Sum("go_goroutines") }, 20, 1000},
		{"sockets", func(k loadLook) float64 { return float64(k.socks) }, float64(l.size.vanishers), float64(2*l.size.pairs + 100*l.size.vanishers)},
		{"other open files", func(k loadLook) float64 { return float64(k.files) }, -1, loadFiles},
		{"data directory bytes", func(k loadLook) float64 { return float64(k.data) }, -1, loadRetained},
	} {
		peak := func(part []loadLook) (most float64) {
			for _, k := range part {
				most = max(most, q.of(k))
			}
			return most
		}
		first, last, all := peak(looks[:third]), peak(looks[len(looks)-third:]), peak(looks)
		l.t.Logf("%-22s at most %.0f in the first third, %.0f in the last", q.name, first, last)
		if q.slack >= 0 && last > 1.25*first+q.slack {
			l.t.Errorf("%s grew from %.0f to %.0f", q.name, first, last)
		}
		if all > q.bound {
			l.t.Errorf("%s reached %.0f, more than %.0f", q.name, all, q.bound)
		}
	}
}

// settle stops sending, lets the slow ones be quick, and waits until everything has arrived: each message that was ever sent is acked
// and delivered, once and in turn.
func (l *loadTest) settle() {
	l.t.Helper()
	l.on.Store(false)
	l.vanish.rest()
	l.slow.Store(false)
	for i, f := range l.flows {
		Eventually(l.t, fmt.Sprintf("messages of pair %d have arrived", i), func() bool { l.check(); return f.settled() })
	}
	must(l.t, l.vanish.leave())
	refused := map[stanza.Reason]int{}
	var messages uint64
	again := 0
	for _, f := range l.flows {
		f.a.Lock()
		for r, n := range f.refused {
			refused[r] += n
		}
		messages += f.delivered
		again += f.again
		f.a.Unlock()
		f.back.Wait()
		f.a.Close()
		f.b.Close()
	}
	l.check()
	var said []string
	for _, r := range slices.Sorted(maps.Keys(refused)) {
		said = append(said, fmt.Sprintf("%s %d", r, refused[r]))
	}
	if again > l.size.slowIn/10 {
		l.t.Errorf("%d sessions of slow clients were given up: they get along, slowly", again)
	}
	l.t.Logf("%d messages in all, each delivered once; refused for a while: %s; %d sessions of slow clients were given up as unresponsive and made again",
		messages, strings.Join(said, ", "), again)
	cycles := l.vanish.cycles()
	l.t.Logf("vanished (closed, reset, silent): in the preamble %v, behind message 1 %v, behind message 3 %v, with messages under way %v, served %v; "+
		"%d silent ones seen ended by the server; %d logins turned away for a while", cycles[0], cycles[1], cycles[2], cycles[3], cycles[4],
		l.vanish.ended.Load(), l.vanish.turned.Load())
}

// gone judges what is left of all these clients.
func (l *loadTest) gone(before loadLook) {
	l.t.Helper()
	var after loadLook
	for _, family := range []string{"linecard_gateway_sessions", "linecard_gateway_connections", "linecard_gateway_outbound_bytes",
		"linecard_gateway_outbound_sessions", "linecard_gateway_partial_bytes", "linecard_gateway_unanswered_messages", "linecard_gateway_handshake_queue", "linecard_router_bindings",
		"linecard_offline_attachments", "linecard_offline_queue_entries", "linecard_offline_queue_bytes", "linecard_offline_pending_receipts",
		"linecard_link_unhandled_bytes"} {
		Eventually(l.t, family+" is 0 again", func() bool { after = l.look(); return after.m.Sum(family) == 0 })
	}
	Eventually(l.t, "goroutines and sockets are back to the start", func() bool {
		after = l.look()
		return after.m.Sum("go_goroutines") <= before.m.Sum("go_goroutines") && after.socks <= before.socks
	})
	for range 2 { // what the first one finds out of use, the second returns
		if status, page := l.s.Get("up", "/debug/pprof/heap?gc=1"); status != 200 {
			l.t.Fatal("collection: ", status, page)
		}
	}
	after = l.look()
	heap := func(k loadLook) float64 { return k.m.Sum("go_memstats_heap_alloc_bytes") }
	l.t.Logf("goroutines %.0f, before %.0f; sockets %d, before %d; other files %d, before %d; heap after collections %.1f MB, before %.1f MB; resident %.1f MB, before %.1f MB; data %.1f MB",
		after.m.Sum("go_goroutines"), before.m.Sum("go_goroutines"), after.socks, before.socks, after.files, before.files, heap(after)/1e6, heap(before)/1e6,
		float64(after.rss)/1e6, float64(before.rss)/1e6, float64(after.data)/1e6)
	if heap(after) > heap(before)+loadHeapSlack {
		l.t.Errorf("the heap holds %.0f bytes, %.0f before", heap(after), heap(before))
	}
}
