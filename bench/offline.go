package bench

import (
	"cmp"
	"fmt"
	"time"

	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	offlineUsers  = 1000
	perUser       = 20 // messages that wait for each user
	offlineRounds = 3
	goalStore     = 10
	goalDeliver   = 15
	arriveLimit   = 2 * time.Minute
)

// offline measures messages for users who are away, and their delivery when they come back. Each user has a sender of its own, which
// stays connected.
//
// A round: the users bind with nothing waiting (what binding costs), leave, 20 messages each are stored, the users bind again and get
// and ack what waits. In the last round the servers are stopped and started in between, so that what is delivered comes from disk.
func (r *run) offline() error {
	users := cmp.Or(r.o.Sessions, offlineUsers)
	if err := r.up(2*users, 0); err != nil {
		return err
	}
	r.rep.Title = fmt.Sprintf("%d users away, %d messages each stored, then delivered", users, perUser)
	all, away := swarm.Range{Count: 2 * users}, swarm.Range{From: 1, Count: 2*users - 1, Step: 2}
	if _, _, err := r.open("open", swarm.Open{Range: all, Mode: swarm.Register}); err != nil {
		return err
	}
	if err := r.leave(away); err != nil {
		return err
	}
	var bind, store, deliver, net []float64
	messages := float64(users * perUser)
	for range offlineRounds {
		empty, err := r.comeBack("bind", away, all, 0)
		if err != nil {
			return err
		}
		if err := r.leave(away); err != nil {
			return err
		}
		stored, err := r.store(all)
		if err != nil {
			return err
		}
		back, err := r.comeBack("deliver", away, all, users*perUser)
		if err != nil {
			return err
		}
		if err := r.leave(away); err != nil {
			return err
		}
		bind, store, deliver = append(bind, empty.per(float64(users))), append(store, stored.per(messages)), append(deliver, back.per(messages))
		net = append(net, (back.cpu()-empty.cpu())/messages)
	}
	r.add(report.Figure{Key: "users", Name: "users", Value: float64(users)})
	r.add(report.Figure{Key: "store_cpu_us", Name: "store for a user who is away: server CPU per message", Unit: "us", Samples: store, Goal: goalStore, Better: report.Less})
	r.add(report.Figure{Key: "deliver_cpu_us", Name: "deliver at reconnect, ack and receipt, the bind in it", Unit: "us", Samples: deliver, Goal: goalDeliver, Better: report.Less})
	r.add(report.Figure{Key: "deliver_net_cpu_us", Name: "  the same less what the binds cost in the same round", Unit: "us", Samples: net, Better: report.Less})
	r.add(report.Figure{Key: "bind_cpu_us", Name: "  a bind with nothing waiting", Unit: "us", Samples: bind, Better: report.Less})
	return r.fromDisk(all, away, users)
}

// pause is how long servers get between the steps; a test's is short.
func (r *run) pause() time.Duration { return min(time.Second, cmp.Or(r.o.Hold, time.Second)) }

// leave ends the users' sessions and lets the servers forget them.
func (r *run) leave(away swarm.Range) error {
	if err := r.fleet.Hangup(r.ctx, away); err != nil {
		return err
	}
	return r.rest(r.pause())
}

// store has every sender send its messages, and waits until all are acked.
func (r *run) store(all swarm.Range) (window, error) {
	l, err := r.load("store", swarm.Pairs{Range: all, Size: loadSize, InFlight: inFlight, Messages: perUser, Blind: true})
	if err != nil {
		return window{}, err
	}
	if want := uint64(all.Count / 2 * perUser); l.traffic.Acked != want {
		return window{}, fmt.Errorf("%w: %d of %d stored, refused: %s", errLost, l.traffic.Acked, want, reasons(l.traffic.Refused))
	}
	if len(l.windows) == 0 {
		return window{}, fmt.Errorf("%w: storing took no time", errOptions)
	}
	return window{l.windows[0].first, l.windows[len(l.windows)-1].last}, r.rest(r.pause())
}

// comeBack binds the users and waits until what waited for them has come, each message once and in its order.
func (r *run) comeBack(phase string, away, all swarm.Range, messages int) (w window, err error) {
	from := time.Now()
	if _, _, err := r.open(phase, swarm.Open{Range: away, Mode: swarm.Bind}); err != nil {
		return w, err
	}
	for messages > 0 {
		t, err := r.fleet.Report(r.ctx, all) // of the messages: what else arrives, receipts for one, counts for nothing
		if err == nil {
			err = faults(t)
		}
		if err != nil {
			return w, err
		}
		if t.Delivered >= uint64(messages) {
			break
		}
		if time.Since(from) > arriveLimit {
			return w, fmt.Errorf("%w: %d of %d that waited have come", errLost, t.Delivered, messages)
		}
		if err := r.rest(backEvery); err != nil {
			return w, err
		}
	}
	if err := r.rest(r.pause()); err != nil { // receipts are on their way
		return w, err
	}
	if err := r.tick(); err != nil {
		return w, err
	}
	ticks := r.rec.between(from, time.Now())
	return window{ticks[0], ticks[len(ticks)-1]}, nil
}

// fromDisk stores, restarts the servers in order, and measures what delivery costs then.
func (r *run) fromDisk(all, away swarm.Range, users int) error {
	if r.o.remote() {
		return nil // nothing here could restart them
	}
	if _, err := r.store(all); err != nil {
		return err
	}
	r.rec.pause()
	if err := r.fleet.Hangup(r.ctx, swarm.Range{Count: all.Count, Step: 2}); err != nil {
		return err
	}
	if err := r.sys.stop(); err != nil {
		return err
	}
	if err := r.sys.start(r.ctx); err != nil {
		return err
	}
	r.rec.resume()
	if _, _, err := r.open("senders", swarm.Open{Range: swarm.Range{Count: all.Count, Step: 2}, Mode: swarm.Bind}); err != nil {
		return err
	}
	if err := r.rest(r.pause()); err != nil {
		return err
	}
	back, err := r.comeBack("deliver from disk", away, all, users*perUser)
	if err != nil {
		return err
	}
	r.add(report.Figure{Key: "disk_deliver_cpu_us", Name: "deliver after a restart of the servers, the bind in it", Unit: "us", Value: back.per(float64(users * perUser)), Better: report.Less})
	return nil
}

// pause keeps the recorder from looking at servers that are meant to be gone; resume lets it again.
func (r *recorder) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = true
}

func (r *recorder) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = false
}
