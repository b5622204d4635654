package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/stanza"
)

// enquirer is what a process, or an operator's command, asks routers with: an endpoint of its own, so that its streams have nothing to do
// with those of the daemons. Over it comes the roster before anybody knows whom to dial, and over it the roster is changed.
type enquirer struct {
	ep      *link.Endpoint
	board   *link.Board
	log     *slog.Logger
	routers []string      // addresses to find one at
	next    atomic.Uint64 // number of the last request

	mu      sync.Mutex
	streams []*link.Stream
	unmet   map[string]error // by address: why the last attempt to connect failed
	waiting map[uint64]chan<- reply
	leaders map[stanza.Group]led
	reports map[uint64]memberReport
}

// reply is what one router says to a request.
type reply struct {
	why    roster.Refusal
	cannot bool // it does not lead dir/0
}

// led is the newest word on who leads a group.
type led struct {
	term uint64
	node uint64
}

// newEnquirer returns an enquirer for a cluster; what it hears of the roster goes on board.
func newEnquirer(cfg *Config, node, incarnation uint64, board *link.Board, log *slog.Logger, reg prometheus.Registerer) *enquirer {
	a := &enquirer{board: board, log: log, routers: cfg.Links.Routers, unmet: map[string]error{}, waiting: map[uint64]chan<- reply{},
		leaders: map[stanza.Group]led{}, reports: map[uint64]memberReport{}}
	info := link.Info{Role: link.RoleOperator, Node: node, Incarnation: incarnation, Shards: cfg.Shards, Cluster: cfg.Cluster, Region: cfg.Region.Region()}
	a.ep = link.NewEndpoint(info, a, link.Options{Board: board, Failed: a.failed, Logger: log, Registerer: reg})
	return a
}

// failed notes why an address does not lead to a router.
func (a *enquirer) failed(addr string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unmet[addr] = err
}

// Up implements link.Handler.
func (a *enquirer) Up(s *link.Stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams = append(a.streams, s)
	clear(a.unmet) // there is somebody to ask
}

// errUnmet says why no router can be asked; nil: nothing is known yet. final: it will stay so, for no address can lead to one.
func (a *enquirer) errUnmet() (final bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var each []string
	final = true
	for _, addr := range a.routers {
		why := a.unmet[addr]
		final = final && link.Misfit(why)
		if why != nil {
			each = append(each, addr+": "+why.Error())
		}
	}
	if len(a.streams) > 0 || len(each) == 0 {
		return false, nil
	}
	return final, fmt.Errorf("no router can be asked: %s", strings.Join(each, "; "))
}

// Down implements link.Handler.
func (a *enquirer) Down(s *link.Stream, _ error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams = slices.DeleteFunc(a.streams, func(x *link.Stream) bool { return x == s })
}

// Receive implements link.Handler.
func (a *enquirer) Receive(s *link.Stream, batch []link.Envelope) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range batch {
		e := &batch[i]
		switch e.Kind {
		case link.KindMemberAnswer:
			why := roster.Unknown
			if len(e.Payload) == 1 {
				why = roster.Refusal(e.Payload[0])
			}
			a.answer(e.ID, reply{why: why})
		case link.KindNotLeader:
			a.answer(e.ID, reply{cannot: true})
		case link.KindHello:
			if l := a.leaders[e.Group]; e.Term >= l.term {
				a.leaders[e.Group] = led{term: e.Term, node: s.Peer().Node}
			}
		case link.KindLooked:
			var r memberReport
			if err := json.Unmarshal(e.Payload, &r); err != nil {
				a.log.Warn("a member's report cannot be read", "node", nodeName(s.Peer().Node), "err", err)
				break
			}
			a.reports[s.Peer().Node] = r
		}
		s.Done(e.Group, e.Size())
	}
}

// answer hands a reply to whoever waits for it. Under mu.
func (a *enquirer) answer(id uint64, r reply) {
	if c := a.waiting[id]; c != nil {
		delete(a.waiting, id)
		c <- r // has room for one
	}
}

// leads returns the node that leads a group, as far as it was heard.
func (a *enquirer) leads() map[stanza.Group]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[stanza.Group]uint64{}
	for g, l := range a.leaders {
		all[g] = l.node
	}
	return all
}

// reported returns what members have said of themselves.
func (a *enquirer) reported() map[uint64]memberReport {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.reports)
}

// peers returns the streams that are up.
func (a *enquirer) peers() []*link.Stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.streams)
}

// Pauses of an enquirer.
const (
	answerLimit = 3 * time.Second // for one router to answer
	askAgain    = 200 * time.Millisecond
)

// ask asks one router after the other until one decides; kind is announce or leave. An error is ctx's end, with what was heard last.
func (a *enquirer) ask(ctx context.Context, kind link.Kind, payload []byte) (roster.Refusal, error) {
	last := "no router can be reached"
	for {
		if final, err := a.errUnmet(); err != nil {
			if last = err.Error(); final {
				return roster.Unknown, err
			}
		}
		for _, s := range a.peers() {
			r, err := a.askOne(ctx, s, kind, payload)
			switch {
			case err != nil:
				last = fmt.Sprintf("router %x: %v", s.Peer().Node, err)
			case r.cannot:
				last = "no router leads the directory"
			case r.why == roster.Busy || r.why == roster.Unknown:
				last = r.why.String()
			default:
				return r.why, nil
			}
		}
		select {
		case <-ctx.Done():
			return roster.Unknown, fmt.Errorf("%s: %w", last, ctx.Err())
		case <-time.After(askAgain):
		}
	}
}

func (a *enquirer) askOne(ctx context.Context, s *link.Stream, kind link.Kind, payload []byte) (reply, error) {
	id, got := a.next.Add(1), make(chan reply, 1)
	a.mu.Lock()
	a.waiting[id] = got
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.waiting, id)
		a.mu.Unlock()
	}()
	if err := s.Send(&link.Envelope{Kind: kind, Group: stanza.DirGroup(0), ID: id, Payload: payload}); err != nil {
		return reply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	select {
	case r := <-got:
		return r, nil
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// announce says what m is. nil: it is in the roster, so, or as leaving.
func (a *enquirer) announce(ctx context.Context, m roster.Member) error {
	why, err := a.ask(ctx, link.KindAnnounce, m.Append(nil))
	if err == nil && why != roster.Done {
		err = errRefused{why}
	}
	if err != nil {
		return fmt.Errorf("announcing %s %q: %w", m.Role, m.Name, err)
	}
	return nil
}

// errRefused is a router's no.
type errRefused struct{ why roster.Refusal }

func (e errRefused) Error() string {
	switch e.why {
	case roster.NameTaken:
		return e.why.String() + "; if that one is gone for good, take it out first: linecard cluster leave"
	case roster.OtherName:
		return e.why.String() + "; issue one: linecard keys issue"
	}
	return e.why.String()
}

// nodeName is a node id as raft, the databases and logs have it.
func nodeName(id uint64) string { return strconv.FormatUint(id, 16) }

// awaitRoster waits until a router has told its roster.
func (a *enquirer) awaitRoster(ctx context.Context, board *link.Board) error {
	told := board.Changed()
	defer board.Unwatch(told)
	look := time.NewTicker(askAgain)
	defer look.Stop()
	for {
		select {
		case <-told:
			return nil
		case <-look.C:
			if final, err := a.errUnmet(); final {
				return err
			}
		case <-ctx.Done():
			if _, err := a.errUnmet(); err != nil {
				return err
			}
			return fmt.Errorf("no router told its roster: %w", ctx.Err())
		}
	}
}
