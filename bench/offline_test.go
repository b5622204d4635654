package bench

import (
	"testing"
	"time"
)

const (
	perUser    = 20 // messages that wait for each user
	settleTime = time.Second
)

// BenchmarkOffline measures messages for users who are away, and their delivery when they come back. Each user has a sender of its
// own, which stays connected, has perPair messages under way until all are acked, and is shown the receipts later.
//
// A round: the users bind with nothing waiting (what binding costs), leave, 20 messages each are stored, the users bind again and get
// and ack what waits. In the last round the server is stopped and started in between, so that what is delivered comes from disk.
func BenchmarkOffline(b *testing.B) {
	s := start(b)
	l := newLoad(s, *pairsFlag, untilAck)
	l.most = 0
	l.register()
	l.leave()
	users, messages := len(l.pairs), int64(len(l.pairs)*perUser)
	profiled := s.profile(rounds * 3 * time.Second)
	var bind, store, deliver, net []float64
	var others shares
	for range rounds {
		empty := s.costOf(l.comeBack)
		l.leave()
		stored := s.costOf(l.store)
		s.rest(settleTime)
		back := s.costOf(func() {
			l.comeBack()
			s.until("deliveries and receipts", l.settled)
		})
		l.leave()
		bind = append(bind, empty.per(int64(users)))
		store = append(store, stored.per(messages))
		deliver = append(deliver, back.per(messages))
		net = append(net, micros(back.server()-empty.server())/float64(messages))
		others.add(back)
	}
	profiled()
	disk := l.afterRestart(messages)
	b.ReportMetric(median(store), "store-us/msg")
	b.ReportMetric(median(deliver), "deliver-us/msg")
	b.ReportMetric(median(net), "deliver-without-bind-us/msg")
	b.ReportMetric(median(bind), "bind-us")
	table.add("store for a user who is away: CPU per message", "10 us", "%s us", spread(store))
	table.add("deliver at reconnect, ack and receipt; the bind in it", "15 us", "%s us", spread(deliver))
	table.add("  the same less what the binds cost in this round", "-", "%s us", spread(net))
	table.add("  a bind with nothing waiting; others used", "-", "%s us; %s", spread(bind), others)
	table.add("  deliver after a restart of the server, the bind in it", "-", "%.1f us", disk)
	reportShares(b, "store, deliver, and a 20th of the bind with nothing waiting", median(store)+median(deliver)+median(bind)/perUser)
}

// leave ends the recipients' sessions and lets the server forget them.
func (l *load) leave() {
	for _, p := range l.pairs {
		p.b.Close()
	}
	l.s.rest(settleTime)
}

func (l *load) comeBack() {
	l.s.each(len(l.pairs), func(i int) error { return l.pairs[i].b.Connect() })
}

// store has every sender send its messages, and waits until all are acked.
func (l *load) store() {
	l.most += perUser
	l.turn()
	l.s.until("acks", func() bool { return l.acked.Load() == int64(l.most)*int64(len(l.pairs)) })
	l.running.Store(false)
}

// afterRestart stores, restarts the server in order, and returns what delivery costs then, with the binds.
func (l *load) afterRestart(messages int64) float64 {
	s := l.s
	l.store()
	for _, p := range l.pairs {
		p.a.Close()
	}
	for _, p := range s.Processes() {
		if code, err := p.Stop(30 * time.Second); err != nil || code != 0 {
			s.b.Fatal("the server's end: exit code ", code, ", ", err)
		}
	}
	s.StartAll()
	s.each(len(l.pairs), func(i int) error { return l.pairs[i].a.Connect() })
	s.rest(settleTime)
	return s.costOf(func() {
		l.comeBack()
		s.until("deliveries and receipts", l.settled)
	}).per(messages)
}
