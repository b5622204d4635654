package testkit

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"linecard.example/internal/stanza"
)

// event is something that went wrong with a client: one line in the log and one count of its reason.
type event struct {
	daemon, line string
	reason       stanza.Reason
}

func turnedAway(r stanza.Reason) event               { return event{"gateway", "connection refused", r} }
func closed(r stanza.Reason) event                   { return event{"gateway", "session closed", r} }
func refusedBy(d string, r stanza.Reason) event      { return event{d, "message refused", r} }
func queryRefusedBy(d string, r stanza.Reason) event { return event{d, "query refused", r} }
func refusedByQueue(r stanza.Reason) event           { return event{"offline", "queue refused a message", r} }

// series is the counter of an event.
func (e event) series() string {
	family, label := "linecard_"+e.daemon+"_refusals_total", "reason"
	switch {
	case e.usedXX():
		return fmt.Sprintf("linecard_gateway_use_xx_total{cause=%q}", e.line)
	case e.line == "connection refused":
		family, label = "linecard_gateway_handshakes_total", "result"
	case e.line == "session closed":
		family = "linecard_gateway_closes_total"
	case e.line == "query refused" && e.daemon == "router":
		family = "linecard_router_query_errors_total"
	}
	return fmt.Sprintf("%s{%s=%q}", family, label, e.reason)
}

// level is where the log has the event: what happens to honest clients every day is for debugging.
func (e event) level() string {
	switch e.reason {
	case stanza.ReasonPeerClosed, stanza.ReasonDisplaced, stanza.ReasonUnlinked, stanza.ReasonGap, stanza.ReasonStaleDevices:
		return "DEBUG"
	}
	return "INFO"
}

func (e event) String() string {
	return fmt.Sprintf("level=%s daemon=%s %q %s", e.level(), e.daemon, e.line, e.reason)
}

// sight is what the peer gets to see.
type sight int

const (
	inRefusedFrame sight = iota // before the session: a refused frame with the reason, then the end
	inClose                     // in the session: a close stanza with the reason, then the end
	inRefusal                   // a refused or error stanza with the reason; the session goes on
	unseen                      // the connection ends without a word: the case's name says why there is no other way
	skipped                     // nothing: it is legal, or the peer has left by itself
	judged                      // the case has looked at it by itself
)

// badCase is one way to misbehave.
type badCase struct {
	name  string
	bound bool // in a session of its own; else on a fresh connection
	do    func(b *bad) error
	seen  sight
	also  []event // besides the event of seen
	event event   // of seen: what it looks like to the operator, and with which reason to the peer
	drops bool    // what is under way to a session that ends may be dropped: answers, and deliveries to a device that has just left
}

// bad is a client that plays a case.
type bad struct {
	*Raw
	k *badTable
}

// badTable is a server with a crowd on it, and its log.
type badTable struct {
	s     *System
	crowd *Crowd

	mu     sync.Mutex
	events []string        // the lines of events, as event.String shows them
	leaks  []string        // lines with something that no log may tell
	secret map[string]bool // what that is
	number int             // of the next handle
}

// marker is in every ciphertext of a case.
const marker = "m4rk3r-of-content"

// limits of the table's server: short where a case waits for them, low where a case must reach them, out of the way for the crowd.
const badGateway = crowd + `handshake_timeout = "3s"
partial_timeout = "3s"
ack_timeout = "5s"
max_message = "16KiB"
lookup_burst = 5
lookup_rate = 1
outbound_cap = "64KiB"
window_ids = 16
window_bytes = "64KiB"
resume_burst = 3
resume_rate = 0.001
`

// badWindow is the window in messages, small enough for one frame to hold more than twice of it: no answer can come in between.
const badWindow = 16

// TestBadInput does everything wrong that a client can do, one thing after the other, beside a crowd. Each thing has the reason that the
// table says in the place that the table says, is one line in the log and one count of that reason, and of no other. The crowd goes on
// throughout each: nobody is closed, nothing is lost or doubled.
func TestBadInput(t *testing.T) {
	k := &badTable{secret: map[string]bool{marker: true}}
	k.s = Start(t, Together, Settings{
		Gateway: badGateway, Router: "window_ids = 16\nwindow_bytes = \"64KiB\"\n",
		Offline: "queue_entries = 64\nwindow_entries = 16\nwindow_bytes = \"64KiB\"\n", Log: "level = \"debug\"\nclient_burst = 100000\n", LogLine: k.line,
	})
	k.s.WaitTickets()
	k.crowd = k.s.NewCrowd(CrowdOptions{})
	batches := [][]badCase{slowCases()} // which wait for deadlines, all at once
	for _, c := range slices.Concat(earlyCases(), bindCases(), resumeCases(), frameCases(), stanzaCases(t), refusalCases(), flowCases(), configCases(t)) {
		batches = append(batches, []badCase{c})
	}
	for _, batch := range batches {
		name := batch[0].name
		if len(batch) > 1 {
			name = "deadlines"
		}
		if !t.Run(name, func(t *testing.T) { k.play(t, batch) }) && k.crowd.broken() {
			break
		}
	}
	n := k.crowd.Finish()
	t.Logf("%d cases; the crowd of %d exchanged %d messages", len(batches)-1+len(batches[0]), k.crowd.Size(), n)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.leaks {
		t.Errorf("the log tells too much: %s", l)
	}
}

// play plays cases at once and judges them together.
func (k *badTable) play(t *testing.T, batch []badCase) {
	before, from := k.counters(), len(k.logged())
	lines, counts, drops := []string{}, map[string]float64{}, false
	for _, c := range batch {
		drops = drops || c.drops
		for _, e := range c.events() {
			if !e.usedXX() {
				lines = append(lines, e.String())
			}
			counts[e.series()]++
		}
	}
	slices.Sort(lines)
	k.crowd.Beside(func() {
		var all sync.WaitGroup
		for _, c := range batch {
			all.Go(func() {
				if err := k.misbehave(&c); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			})
		}
		all.Wait()
		for range 200 { // turns: what is on its way comes within one or two, unless it never comes
			if len(k.logged()) >= from+len(lines) && len(k.since(before, drops)) >= len(counts) {
				break
			}
			k.crowd.Turn()
		}
	})
	if got := slices.Sorted(slices.Values(k.logged()[from:])); !slices.Equal(got, lines) {
		t.Errorf("logged\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
	if got := k.since(before, drops); !maps.Equal(got, counts) {
		t.Errorf("counted %v, want %v", got, counts)
	}
}

// events is what a case leaves behind. A session that goes on ends when the case is over.
func (c *badCase) events() []event {
	all := append([]event(nil), c.also...)
	if c.event != (event{}) {
		all = append(all, c.event)
	}
	if c.stays() {
		all = append(all, closed(stanza.ReasonPeerClosed))
	}
	return all
}

func (c *badCase) stays() bool { return c.seen == inRefusal || c.seen == skipped && c.bound }

// misbehave plays one case up to the end of its connection.
func (k *badTable) misbehave(c *badCase) error {
	b := &bad{k: k}
	if err := b.connect(c.bound); err != nil {
		return err
	}
	defer b.Close()
	if err := c.do(b); err != nil {
		return err
	}
	switch c.seen {
	case inRefusedFrame, inClose, unseen:
		want := Farewell{c.event.reason, c.seen == inRefusedFrame}
		if c.seen == unseen {
			want = Farewell{}
		}
		got, err := b.Farewell(nil)
		if err != nil || got != want {
			return fmt.Errorf("ended with %v, refused frame %v (%w), want %v, %v", got.Reason, got.Refused, err, want.Reason, want.Refused)
		}
	case inRefusal:
		if got, err := b.refusal(); err != nil || got != c.event.reason {
			return fmt.Errorf("refused with %v (%w), want %v", got, err, c.event.reason)
		}
	}
	if c.stays() {
		return b.alive()
	}
	return nil
}

// connect makes a connection, or a session of a new account.
func (b *bad) connect(bound bool) (err error) {
	if b.Raw, err = DialRaw(b.k.s.Server); err != nil {
		return err
	}
	b.k.mu.Lock()
	b.k.secret[hex.EncodeToString(b.Key.Public)] = true
	b.k.secret[base64.StdEncoding.EncodeToString(b.Key.Public)] = true
	b.k.mu.Unlock()
	if !bound {
		return nil
	}
	return b.Register(b.k.handle())
}

func (k *badTable) handle() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.number++
	return fmt.Sprintf("bad%d", k.number)
}

// refusal reads the next refused or error stanza.
func (b *bad) refusal() (stanza.Reason, error) {
	for {
		v, err := b.Next()
		if err != nil {
			return 0, err
		}
		switch v.Tag {
		case stanza.TagRefused:
			r, err := stanza.ParseRefused(v)
			return r.Reason, err
		case stanza.TagError:
			e, err := stanza.ParseQueryError(v)
			return e.Reason, err
		case stanza.TagClose:
			return 0, closedBy(v)
		}
	}
}

// alive pings.
func (b *bad) alive() error {
	if err := b.Say(stanza.Ping{}.Append(nil)); err != nil {
		return err
	}
	return b.skipTo(stanza.TagPong)
}

// skipTo reads up to a stanza with that tag.
func (b *bad) skipTo(tag stanza.Tag) error {
	for {
		v, err := b.Next()
		switch {
		case err != nil:
			return err
		case v.Tag == tag:
			return nil
		case v.Tag == stanza.TagClose:
			return closedBy(v)
		}
	}
}

var eventLine = regexp.MustCompile(`level=([A-Z]+) msg="([a-z ]+)" daemon=([a-z]+) (?:group=\S+ )?reason=([a-z_]+)`)

// line takes a line of the log.
func (k *badTable) line(text []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for s := range k.secret {
		if strings.Contains(string(text), s) && len(k.leaks) < maxFaults {
			k.leaks = append(k.leaks, string(text))
		}
	}
	if m := eventLine.FindSubmatch(text); m != nil {
		k.events = append(k.events, fmt.Sprintf("level=%s daemon=%s %q %s", m[1], m[3], m[2], m[4]))
	}
}

func (k *badTable) logged() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.events)
}

// counters are all counters by reason of all daemons.
func (k *badTable) counters() map[string]float64 {
	all := map[string]float64{}
	for series, v := range k.s.Metrics("up") {
		began := strings.HasPrefix(series, "linecard_gateway_handshakes_total") && !strings.Contains(series, `"ok"`) && !strings.Contains(series, `"resumed"`)
		if strings.Contains(series, `reason="`) || began || strings.HasPrefix(series, "linecard_gateway_use_xx_total") {
			all[series] = v
		}
	}
	return all
}

// since is what the counters have gained.
func (k *badTable) since(before map[string]float64, drops bool) map[string]float64 {
	gained := map[string]float64{}
	for series, v := range k.counters() {
		if drops && strings.Contains(series, "_drops_total") {
			continue
		}
		if d := v - before[series]; d != 0 {
			gained[series] = d
		}
	}
	return gained
}

// TestBadInputDocumented: what the table's cases end with is what docs/operations.md lists as a reason of that kind.
func TestBadInputDocumented(t *testing.T) {
	seen := map[stanza.Reason]bool{}
	for _, c := range slices.Concat(slowCases(), earlyCases(), bindCases(), frameCases(), stanzaCases(t), refusalCases(), flowCases()) {
		r := c.event.reason
		if seen[r] = true; r == 0 {
			continue
		}
		if c.seen == inRefusal && !r.Refuses() || (c.seen == inClose || c.seen == inRefusedFrame) && !r.Closes() {
			t.Errorf("%s: %s may not stand there", c.name, r)
		}
	}
	for _, r := range []stanza.Reason{
		stanza.ReasonBadPreamble, stanza.ReasonVersion, stanza.ReasonBadFrame, stanza.ReasonEarlyData, stanza.ReasonHandshakeFailed,
		stanza.ReasonHandshakeTimeout, stanza.ReasonPartialTimeout, stanza.ReasonDecryptFailed, stanza.ReasonBadStanza, stanza.ReasonForbidden,
		stanza.ReasonWindow, stanza.ReasonSlowConsumer, stanza.ReasonUnresponsive, stanza.ReasonUnknownAccount, stanza.ReasonQueueFull,
		stanza.ReasonTooLarge, stanza.ReasonBusy, stanza.ReasonBadKey, stanza.ReasonUnlinked, stanza.ReasonHandleTaken, stanza.ReasonBadHandle,
		stanza.ReasonStaleDevices, stanza.ReasonGap,
	} {
		if !seen[r] {
			t.Errorf("no case ends with %s", r)
		}
	}
}

// write says bytes.
func (b *bad) write(p ...[]byte) error {
	_, err := b.Write(slices.Concat(p...))
	return err
}

// message is a message of the case's own making to an account's device 1.
func message(id, after uint64, to stanza.Account, size int) []byte {
	text := marker + strings.Repeat(".", max(size-len(marker), 0))
	m := stanza.MessageUp{ID: id, After: after, Account: to, Version: 1, Body: stanza.AppendCipher(nil, 1, []byte(text))}
	return m.Append(nil)
}

// absent registers an account of which no device is there, which is an event of its own.
func (k *badTable) absent() (stanza.Account, error) {
	b := &bad{k: k}
	err := b.connect(true)
	if err == nil {
		err = errors.Join(b.alive(), b.Close())
	}
	return b.Bound.Account, err
}

var left = closed(stanza.ReasonPeerClosed) // an absent account's session ended
