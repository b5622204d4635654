package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
)

// model is a server that admits as the delivery rules say, and does everything that it may do to a client: drops, refusals, answers
// late or out of order, broken connections. Its loop goroutine owns it.
type model struct {
	t        *testing.T
	rng      *rand.Rand
	calm     chan struct{} // closed: no more faults
	last     map[Account]uint64
	memory   map[Account]bool
	admitted map[Account][]int
	ids      map[Account][]uint64
	dead     map[Account][]int
	version  map[Account]uint64
	noted    uint64
	check    func(id uint64)
}

func newModel(t *testing.T, seed uint64) *model {
	return &model{t: t, rng: rand.New(rand.NewPCG(seed, 1)), calm: make(chan struct{}), last: map[Account]uint64{}, memory: map[Account]bool{},
		admitted: map[Account][]int{}, ids: map[Account][]uint64{}, dead: map[Account][]int{}, version: map[Account]uint64{}, check: func(uint64) {}}
}

func (m *model) faulty() bool {
	select {
	case <-m.calm:
		return false
	default:
		return true
	}
}

// run serves one connection after the other until stop is closed.
func (m *model) run(f *fake, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case conn := <-f.conns:
			m.serve(f, conn)
		}
	}
}

func (m *model) serve(f *fake, conn *fakeConn) {
	defer conn.nc.Close()
	r, err := conn.hello()
	if err != nil {
		return
	}
	frame, err := readFrame(conn.nc)
	if err != nil {
		return
	}
	if conn.keys, err = r.ReadFinish(frame); err != nil {
		m.t.Error(err)
		return
	}
	intro, _, _ := stanza.Decode(conn.keys.Payload)
	conn.say(&stanza.Bound{Account: aliceAccount, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18, ID: m.noted})
	if id, ok := intro.Uint(stanza.AttrID); ok {
		m.noted = max(m.noted, id)
	}
	go conn.collect()
	out, over := make(chan appender, 1<<14), make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case s := <-out:
				conn.say(s)
			case <-over:
				return
			}
		}
	}()
	for raw := range conn.stanzas {
		v, _, _ := stanza.Decode(raw)
		if v.Tag == stanza.TagPing {
			out <- stanza.Pong{}
		}
		if v.Tag != stanza.TagMessage {
			continue
		}
		if m.faulty() && m.rng.IntN(60) == 0 {
			return
		}
		if answer := m.message(v); answer != nil {
			if m.faulty() && m.rng.IntN(4) == 0 {
				time.AfterFunc(time.Duration(m.rng.IntN(8000))*time.Millisecond, func() { out <- answer })
				continue
			}
			out <- answer
		}
	}
}

// message returns the answer to a message, nil for none.
func (m *model) message(v stanza.View) appender {
	up, err := stanza.ParseMessageUp(v)
	if err != nil {
		m.t.Error(err)
		return nil
	}
	m.check(up.ID)
	_, cipher, _, err := stanza.NextCipher(up.Body)
	if err != nil {
		m.t.Error(err)
	}
	p, _ := parsePayload(cipher)
	number, _ := strconv.Atoi(p.text)
	refuse := func(r Reason) appender {
		return &stanza.Refused{ID: up.ID, Reason: r, RetryAfter: uint32(m.rng.IntN(5000))}
	}
	silent := false
	if m.faulty() {
		switch m.rng.IntN(24) {
		case 0, 1:
			return nil
		case 2, 3:
			silent = true
		case 4:
			return refuse(stanza.ReasonBusy)
		case 5:
			return refuse(stanza.ReasonUnavailable)
		case 6:
			return refuse(stanza.ReasonWindow)
		case 7:
			return refuse(stanza.ReasonInternal)
		case 8:
			return stanza.RetryAll{}
		case 9:
			m.version[up.Account]++
		case 10:
			m.admit(&up, number)
			return refuse(stanza.ReasonRetry) // the outcome was unknown
		}
	}
	answer := m.judge(&up, number, refuse)
	if silent {
		return nil
	}
	return answer
}

// judge is a router and a queue without faults of the way.
func (m *model) judge(up *stanza.MessageUp, number int, refuse func(Reason) appender) appender {
	if v := m.version[up.Account]; up.Version != v {
		return &stanza.Refused{ID: up.ID, Reason: stanza.ReasonStaleDevices, Version: v, Devices: list(1, Device(1+v))}
	}
	if up.ID > m.last[up.Account] && m.faulty() {
		switch m.rng.IntN(12) {
		case 0:
			return refuse(stanza.ReasonQueueFull)
		case 1:
			if !slices.Contains(m.dead[up.Account], number) && m.gapFree(up) {
				m.dead[up.Account] = append(m.dead[up.Account], number)
			}
		}
	}
	if slices.Contains(m.dead[up.Account], number) {
		return &stanza.Refused{ID: up.ID, Reason: stanza.ReasonForbidden}
	}
	if !m.admit(up, number) {
		return gap(up.ID, m.last[up.Account])
	}
	return ack(up.ID)
}

func (m *model) gapFree(up *stanza.MessageUp) bool {
	return !m.memory[up.Account] || up.After <= m.last[up.Account]
}

// admit is the admission rule; false is a gap.
func (m *model) admit(up *stanza.MessageUp, number int) bool {
	a := up.Account
	if slices.Contains(m.dead[a], number) {
		return true
	}
	if up.ID <= m.last[a] {
		if !slices.Contains(m.ids[a], up.ID) {
			m.t.Errorf("message %d (id %d) counts as a duplicate and was never admitted", number, up.ID)
		}
		return true
	}
	if !m.gapFree(up) {
		return false
	}
	m.last[a], m.memory[a] = up.ID, true
	m.admitted[a] = append(m.admitted[a], number)
	m.ids[a] = append(m.ids[a], up.ID)
	return true
}

// randomNames are the recipients of a run: many, since the start of a stream is where a server has no memory to go by.
const randomNames = 10

// TestRandomServer sends numbered messages on ten streams through such a server, restarting the client now and then, and wants each
// message admitted once, in order.
func TestRandomServer(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) { randomRun(t, f, seed) })
		})
	}
}

func randomRun(t *testing.T, f *fake, seed uint64) {
	const messages = 300
	home := MemoryHome()
	m := newModel(t, seed)
	var current atomic.Pointer[Client]
	if seed%8 == 0 { // on disk: nothing is transmitted before its record is synced
		home = openHome(t, t.TempDir())
		defer home.Close()
		m.check = func(id uint64) {
			c := current.Load()
			c.mu.Lock()
			defer c.mu.Unlock()
			if o := c.out.byID[id]; o != nil && o.lsn > home.durable() {
				t.Errorf("message %d was transmitted before it was synced", id)
			}
		}
	}
	var names []string
	for i := range randomNames {
		names = append(names, fmt.Sprintf("peer%d", i))
		home.putContact(Account(100+i), names[i])
		home.putList(Account(100+i), deviceList{version: 1, devices: keysOf(1)})
		m.version[Account(100+i)] = 1
	}
	stop := make(chan struct{})
	defer close(stop)
	go m.run(f, stop)
	rng := rand.New(rand.NewPCG(seed, 2))
	options := f.options(home, "alice")
	options.jitter = rand.New(rand.NewPCG(seed, 3)).Float64
	start := func() *Client {
		c, err := Start(options)
		if err != nil {
			t.Fatal(err)
		}
		current.Store(c)
		return c
	}
	c := start()
	next := map[string]int{}
	for range messages {
		to := names[rng.IntN(len(names))]
		ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
		if _, err := c.Send(ctx, to, strconv.Itoa(next[to])); err != nil {
			t.Fatal(err)
		}
		cancel()
		next[to]++
		switch rng.IntN(20) {
		case 0:
			time.Sleep(time.Duration(rng.IntN(20_000)) * time.Millisecond)
		case 1:
			c.Close()
			c = start()
		}
	}
	close(m.calm)
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	defer cancel()
	if err := c.Flush(ctx); err != nil {
		t.Fatalf("%v; %d unacked", err, home.Unacked())
	}
	c.Close()
	synctest.Wait()
	for i, name := range names {
		a, want := Account(100+i), []int(nil)
		for i := range next[name] {
			if !slices.Contains(m.dead[a], i) {
				want = append(want, i)
			}
		}
		if !slices.Equal(m.admitted[a], want) || !slices.IsSorted(m.ids[a]) {
			t.Errorf("%s: admitted %v", name, m.admitted[a])
		}
	}
}
