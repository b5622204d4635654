package bench

import (
	"slices"
	"testing"
	"time"
)

const (
	warmUp    = 2 * time.Second
	windowFor = 4 * time.Second
	windows   = 3
	paceRate  = 5000 // messages per second, all pairs together
)

// ackFew is how many deliveries are acked together in the runs that leave most receipts out: one receipt for so many messages.
const ackFew = 16

// BenchmarkMessage measures what a message costs the server. A message is the sender's stanza, the durable ack, the delivery, the
// recipient's ack, and the delivered receipt, stored and shown to the sender. In the runs named few the recipient acks 16 deliveries
// at a time, so that there is one receipt for 16 messages, and a message is done when it is acked and delivered: what a broker does.
func BenchmarkMessage(b *testing.B) {
	for _, run := range []struct {
		name  string
		until until
		acks  uint32
		rate  int // 0 = flat out
		goal  string
	}{
		{"flat", untilReceipt, 1, 0, "12 us"},
		{"5000", untilReceipt, 1, paceRate, "12 us"},
		{"few/flat", untilDelivery, ackFew, 0, "-"},
		{"few/5000", untilDelivery, ackFew, paceRate, "-"},
	} {
		b.Run(run.name, func(b *testing.B) {
			l := newLoad(start(b), *pairsFlag, run.until)
			for _, p := range l.pairs {
				p.b.AckFrom = run.acks
			}
			l.register()
			if run.rate == 0 {
				l.flatOut(run.name, run.goal)
			} else {
				l.atRate(run.name, run.goal, run.rate)
			}
		})
	}
}

// flatOut measures the closed loop.
func (l *load) flatOut(name, goal string) {
	l.turn()
	l.s.rest(warmUp)
	m := l.windows()
	l.stop()
	m.report(l.s.b, "message, "+name, goal)
	reportShares(l.s.b, "message, "+name, median(m.cpu))
}

// atRate measures a fixed rate.
func (l *load) atRate(name, goal string, rate int) {
	b := l.s.b
	r := l.pace(rate)
	l.s.rest(warmUp)
	l.sampling.Store(true)
	m := l.windows()
	l.sampling.Store(false)
	r.end()
	m.report(b, "message, "+name, goal)
	acks, deliveries := l.gather(func(p *pair) samples { return p.ackTimes }), l.gather(func(p *pair) samples { return p.deliveryTimes })
	receipts := l.gather(func(p *pair) samples { return p.receiptTimes })
	slices.Sort(r.late)
	b.ReportMetric(acks.percentile(50), "ack-p50-ms")
	b.ReportMetric(acks.percentile(99), "ack-p99-ms")
	b.ReportMetric(deliveries.percentile(50), "delivery-p50-ms")
	b.ReportMetric(deliveries.percentile(99), "delivery-p99-ms")
	b.ReportMetric(float64(r.full.Load()), "skipped")
	table.add("  send to ack, p50 / p99", latencyGoal(goal), "%s", acks)
	table.add("  send to delivery, p50 / p99", latencyGoal(goal), "%s", deliveries)
	table.add("  send to receipt shown, p50 / p99", "-", "%s", receipts)
	table.add("  sent late by the client, p50 / p99; not sent, 4 under way", "-", "%s; %d of %d", r.late, r.full.Load(), r.full.Load()+r.passed.Load())
	table.chart(acks.histogram("message, " + name + ", send to ack"))
	table.chart(deliveries.histogram("message, " + name + ", send to delivery"))
	table.chart(receipts.histogram("message, " + name + ", send to receipt shown"))
	reportShares(b, "message, "+name, median(m.cpu))
}

func latencyGoal(goal string) string {
	if goal == "-" {
		return goal
	}
	return "0.5 / 5 ms"
}

// windowed is what some windows measured.
type windowed struct {
	cpu, system, rate, client, receipts, reads, writes []float64
	others                                             shares
	inner                                              inner
}

// inner is what the server counts about itself, over all windows of a run. Looking costs the server a little: that is between windows.
type inner struct{ messages, packs, commands, outboxes, switches float64 }

func (l *load) look() inner {
	return inner{
		messages: float64(l.completed()), packs: l.s.counter("linecard_offline_shard_pack_commands_count"),
		commands: l.s.counter("linecard_offline_shard_pack_commands_sum"), outboxes: l.s.counter("linecard_gateway_outboxes_total"),
		switches: float64(switches(l.s.Processes())),
	}
}

// per is what happened for each message since before; commands are for each pack.
func (i inner) per(before inner) inner {
	n, packs := i.messages-before.messages, i.packs-before.packs
	return inner{
		messages: n, packs: packs / n, commands: (i.commands - before.commands) / packs, outboxes: (i.outboxes - before.outboxes) / n,
		switches: (i.switches - before.switches) / n,
	}
}

func (l *load) windows() (m windowed) {
	l.s.b.Helper()
	defer l.s.profile(windows*windowFor - time.Second)()
	before := l.look()
	for range windows {
		receipts := l.receipts.Load()
		c, n := l.window(windowFor)
		if n == 0 {
			l.s.b.Fatal("no message went through")
		}
		m.cpu = append(m.cpu, c.per(n))
		m.system = append(m.system, micros(c.system)/float64(n))
		m.client = append(m.client, micros(c.client)/float64(n))
		m.rate = append(m.rate, float64(n)/c.wall.Seconds())
		m.receipts = append(m.receipts, float64(l.receipts.Load()-receipts)/float64(n))
		m.reads = append(m.reads, float64(c.reads)/float64(n))
		m.writes = append(m.writes, float64(c.writes)/float64(n))
		m.others.add(c)
	}
	m.inner = l.look().per(before)
	return m
}

func (m *windowed) report(b *testing.B, name, goal string) {
	b.ReportMetric(median(m.cpu), "cpu-us/msg")
	b.ReportMetric(median(m.system), "kernel-us/msg")
	b.ReportMetric(median(m.rate), "msgs/s")
	b.ReportMetric(median(m.receipts), "receipts/msg")
	table.add(name+": server CPU per message", goal, "%s us", spread(m.cpu))
	table.add("  of it in the kernel; the client's own, beside it", "-", "%.1f us; %.1f us", median(m.system), median(m.client))
	table.add("  per message: read, write system calls; writes to sessions", "-", "%.2f, %.2f; %.2f", median(m.reads), median(m.writes), m.inner.outboxes)
	table.add("  per message: context switches; packs; commands in a pack", "-", "%.2f; %.3f; %.1f", m.inner.switches, m.inner.packs, m.inner.commands)
	table.add("  messages per second; receipt stanzas per message; others used", "-", "%.0f; %.2f; %s",
		median(m.rate), median(m.receipts), m.others)
}
