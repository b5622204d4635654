package bench

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"

	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	routePairs = 1000
	routeRate  = 5000
	inFlight   = 4 // messages of a pair under way, of a closed loop
	// ackFew leaves most receipts out: recipients ack so many deliveries together, which raises one receipt. There is no switch that
	// turns receipts off, so this is the nearest to what brokers do; it saves the recipients' acks as well.
	ackFew = 16

	goalMessage = 12
	goalP50     = 0.5
	goalP99     = 5
)

// variant is one load of route.
type variant struct {
	key, name string
	rate      float64
	ackEvery  int
	goal      float64
}

// route measures what a message costs the servers: the sender's stanza, the durable ack, the delivery, the recipient's ack, and the
// delivered receipt, stored, shown to the sender and acked.
func (r *run) route() error {
	pairs := cmp.Or(r.o.Sessions, routePairs)
	if err := r.up(2*pairs, 0); err != nil {
		return err
	}
	all := swarm.Range{Count: 2 * pairs}
	if _, _, err := r.open("open", swarm.Open{Range: all, Mode: swarm.Register}); err != nil {
		return err
	}
	rate := cmp.Or(r.o.Rate, min(routeRate, float64(5*pairs)))
	at := fmt.Sprintf("at %.0f/s", rate)
	list := []variant{
		{"flat", "flat out", 0, 1, goalMessage}, {"paced", at, rate, 1, goalMessage},
		{"few", "flat out, a receipt for 16 messages", 0, ackFew, 0}, {"paced_few", at + ", a receipt for 16 messages", rate, ackFew, 0},
	}
	if r.o.Rate > 0 {
		list = []variant{list[1], list[3]}
	}
	r.rep.Title = fmt.Sprintf("Messages between %d pairs, %d-byte bodies, durable before the ack", pairs, loadSize)
	r.add(report.Figure{Key: "pairs", Name: "pairs", Value: float64(pairs)})
	chart := report.Chart{Name: "route-latency", Title: "From a message's intended time to its delivery", X: "ms", Y: "% of messages at most", LogX: true}
	t := report.Table{Title: "Per message", Header: routeHeader}
	for _, v := range list {
		l, err := r.load(v.name, swarm.Pairs{
			Range: all, Size: loadSize, InFlight: inFlight, Rate: v.rate, AckEvery: v.ackEvery,
			Duration: r.warmup() + cmp.Or(r.o.Hold, loadFor), Warmup: r.warmup(),
		})
		if err != nil {
			return err
		}
		r.routed(v, l)
		t.Rows = append(t.Rows, l.row(v.name))
		if v.rate > 0 {
			chart.Series = append(chart.Series, curve(v.name, l.traffic.Deliver))
		}
	}
	r.rep.Tables = append(r.rep.Tables, t)
	r.rep.Charts = append(r.rep.Charts, chart)
	if f, ok := r.rep.Figure("route", "flat_cpu_us"); ok {
		r.rep.Charts = append(r.rep.Charts, peerChart("route-peers", "Server CPU per message flat out", "us", f.Value, func(p peer) float64 { return p.messageUS }))
	}
	return nil
}

// routeHeader stands over what loaded.row returns.
var routeHeader = []string{"load", "reads", "writes", "socket writes to sessions", "context switches", "log packs", "commands in a pack", "receipts",
	"machine used by others", "server CPU by part, us"}

// routed reports one load.
func (r *run) routed(v variant, l loaded) {
	r.add(report.Figure{Key: v.key + "_cpu_us", Name: v.name + ": server CPU per message", Unit: "us", Samples: l.cpu(), Goal: v.goal, Better: report.Less})
	r.add(report.Figure{Key: v.key + "_kernel_us", Name: "  of it in the kernel", Unit: "us", Better: report.Less,
		Samples: l.each(func(w window) float64 { return micros(w.servers().System) / float64(w.messages()) })})
	r.add(report.Figure{Key: v.key + "_rate", Name: "  messages per second", Unit: "/s", Samples: l.rates(), Better: report.More})
	if v.rate == 0 {
		return // in a closed loop latency is what the number under way makes it
	}
	goal50, goal99 := goalP50, float64(goalP99)
	if v.goal == 0 {
		goal50, goal99 = 0, 0
	}
	r.latencies(v.key+"_ack", "  due to acked", l.traffic.Ack, goal50, goal99)
	r.latencies(v.key+"_deliver", "  due to delivered", l.traffic.Deliver, goal50, goal99)
}

// row is what the servers did for each message.
func (l loaded) row(name string) []string {
	reads := report.Median(l.each(func(w window) float64 { return float64(w.servers().Reads) / float64(w.messages()) }))
	writes := report.Median(l.each(func(w window) float64 { return float64(w.servers().Writes) / float64(w.messages()) }))
	others := report.Median(l.each(func(w window) float64 { return w.others(runtime.NumCPU()) }))
	two := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	return []string{
		name, two(reads), two(writes), two(l.inner["outboxes"]), two(l.inner["switches"]), fmt.Sprintf("%.3f", l.inner["packs"]),
		fmt.Sprintf("%.1f", l.inner["commands"]/max(l.inner["packs"], 1e-9)), two(l.inner["receipts"]), fmt.Sprintf("%.0f %%", 100*others), l.byPart(),
	}
}

// byPart is what each part of the servers used per message.
func (l loaded) byPart() string {
	var all []string
	for _, p := range l.windows[0].last.servers {
		us := report.Median(l.each(func(w window) float64 { return micros(w.part(p.Name).CPU()) / float64(w.messages()) }))
		all = append(all, fmt.Sprintf("%s %.1f", p.Name, us))
	}
	return strings.Join(all, ", ")
}
