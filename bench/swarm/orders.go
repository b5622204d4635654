package swarm

import "time"

// Mode is how a session opens.
type Mode string

// The modes.
const (
	Register Mode = "register" // XX with register: a new account at first use, the same again later
	Bind     Mode = "bind"     // XX with bind, for sessions that were bound before in this engine; others register
	Resume   Mode = "resume"   // by ticket, for sessions that have one; others bind
)

// Range names the sessions From to From+Count-1, or every Step-th of them, From being the first: with a step of 2 the senders or the
// recipients of Pairs. On a Fleet the numbers are those of the whole fleet.
type Range struct {
	From  int
	Count int
	Step  int // 0: 1. Pairs takes no other.
}

// Has reports whether a session is in the range.
func (r Range) Has(n int) bool {
	return n >= r.From && n < r.From+r.Count && (n-r.From)%max(1, r.Step) == 0
}

// count is the number of sessions in the range.
func (r Range) count() int { return (r.Count + max(1, r.Step) - 1) / max(1, r.Step) }

// Open is an order to connect sessions and keep them: one that is lost comes back by itself, by the schedule of gateway/client, until
// Close or Hangup.
type Open struct {
	Range
	Mode Mode    // "": Register
	Rate float64 // connections begun a second; 0: as fast as Config.Handshakes lets them
	// Far gives connections what those of a phone far away have, packets of 1,400 bytes and a receive buffer of 4 KiB, now and whenever
	// they come back. On the loopback interface the kernel would take megabytes for one that does not read.
	Far bool
}

// Opened says how an Open went: it ends when every session of it is bound or has stopped.
type Opened struct {
	Asked    int
	Bound    int
	Stopped  int // closed with a reason that says never again
	Attempts uint64
	Resumed  int           // of Bound: by ticket
	Elapsed  time.Duration // from the order to the last session's bound
	CPU      time.Duration // of the engines' processes meanwhile
	Setup    Histogram     // from connect to bound of each session's last attempt
}

// Cut is an order to end sessions' connections at once and have them all come back at once, as after the loss of a server or a network.
type Cut struct {
	Range
	Mode  Mode // Bind or Resume; "": Resume
	Reset bool // RST instead of FIN: leaves no TIME_WAIT
}

// Storm says how sessions came back after a Cut.
type Storm struct {
	Opened
	Lost   int               // cut: were bound at the time
	Back   Histogram         // from the cut to each session's bound: its 50th, 99th and 100th percentile are the storm
	Closes map[string]uint64 // why attempts failed, by reason
}

// Pairs is an order for traffic: of the sessions of Range, each even one sends to the odd one behind it.
type Pairs struct {
	Range
	Size     int           // of a message's payload, bytes; at least MinSize
	InFlight int           // unacked messages of a pair, 1 to 32; 0: 8
	Rate     float64       // messages a second of all pairs together, on a schedule: open loop. 0: closed loop, as fast as acks come
	Messages int           // of each pair; 0: until Duration
	Duration time.Duration // of sending; what is under way then is waited for
	Warmup   time.Duration // at the beginning, left out of histograms
	AckEvery int           // receivers ack when so many deliveries wait, or AckWait has passed; 0 or 1: what came together, at once
	AckWait  time.Duration // 0: 250 ms
	Reads    bool          // receivers say `read` for what they ack
	Blind    bool          // do not wait for deliveries: the receivers are slow or away
	Drain    time.Duration // how long to wait for acks and deliveries at the end; 0: 30 s
}

// MinSize is the smallest payload of a message: it carries the pair, the number and the time.
const MinSize = 28

// Traffic says how messages fared. With no fault Sent = Acked = Delivered and the rest is 0.
type Traffic struct {
	Sent      uint64 // different messages transmitted
	Acked     uint64 // stored, as the server said
	Delivered uint64 // different messages that arrived
	Receipts  uint64 // messages for which `delivered` came
	Reads     uint64 // messages for which `read` came

	Lost        uint64 // acked, and not delivered by the end
	Unacked     uint64 // sent, and neither acked nor finally refused by the end
	Doubled     uint64 // arrived again on the same connection
	Disordered  uint64 // arrived behind a later one of their pair, or before an earlier one that had been acked
	Corrupt     uint64 // arrived with another content than was sent
	Rejected    uint64 // refused for good
	Unsent      uint64 // due by the order and not begun by the end: their senders were gone
	Redelivered uint64 // arrived again on a later connection: allowed, the client's id check drops them

	Resent  uint64
	Refused map[string]uint64 // refusals by reason, retryable ones included

	Elapsed time.Duration // from the first transmission to the last message begun, acked or delivered
	CPU     time.Duration // of the engines' processes meanwhile
	Ack     Histogram     // from a message's intended time to its ack
	Deliver Histogram     // from a message's intended time to its delivery; the same machine's clock on both ends
}

// Letters is an order to send messages between any sessions, also of other engines. A Fleet makes the list; see Fleet.Random.
type Letters struct {
	Run  uint64 // a number of this order, the same on all engines
	Size int
	List []Letter
}

// Letter is one message of Letters. Number is unique within a run, from 0.
type Letter struct {
	From    int // session of the engine that sends
	Account uint64
	Device  uint32
	Number  uint32
}

// Slow is an order to stop reading (or to read again) on sessions. Their pings stop as well.
type Slow struct {
	Range
	Off bool // read again
}

// Ping is an order to have each session of the range send one ping now, beside its schedule: what a ping costs and how long it takes can
// be seen without waiting for the interval.
type Ping struct {
	Range
	Rate float64 // pings a second; 0: as fast as pongs come for Config.Handshakes at a time
}

// Pinged says how a Ping went: it ends when each session has its pong or is no longer bound, or ctx ends.
type Pinged struct {
	Asked   int
	Pongs   int
	Elapsed time.Duration
	RTT     Histogram
}

// Counters are totals of an engine's life, but for the first group.
type Counters struct {
	Sessions   int `json:"sessions"`   // wanted: opened and not hung up
	Bound      int `json:"bound"`      // now
	Connecting int `json:"connecting"` // now: connections not bound yet
	Waiting    int `json:"waiting"`    // now: for their next attempt
	Stopped    int `json:"stopped"`    // now: closed with a reason that says never again

	Attempts uint64            `json:"attempts"`         // connections begun
	Binds    uint64            `json:"binds"`            // sessions bound
	Resumes  uint64            `json:"resumes"`          // of Binds: by ticket
	UseXX    uint64            `json:"use_xx"`           // tickets not taken
	Lost     map[string]uint64 `json:"lost,omitempty"`   // bound sessions that ended other than by order, by reason
	Failed   map[string]uint64 `json:"failed,omitempty"` // attempts that did not get bound, by reason
	Pings    uint64            `json:"pings"`            //
	Pongs    uint64            `json:"pongs"`            //
	Sent     uint64            `json:"sent"`             // messages transmitted, again included
	Acked    uint64            `json:"acked"`            //
	Arrived  uint64            `json:"arrived"`          // deliveries of any kind
	BytesIn  uint64            `json:"bytes_in"`         //
	BytesOut uint64            `json:"bytes_out"`        //
	Dead     []string          `json:"dead,omitempty"`   // engines of a fleet that ended: their sessions are counted as lost "engine"
}

// Memory says what an engine's sessions take, in bytes.
type Memory struct {
	Slots   uint64 // mapped for sessions and their timers, as touched
	Tickets uint64 // mapped for tickets
	Heap    uint64 // live Go heap, all of the process
	PSS     uint64 // of the process, from the kernel; 0 where it does not say
	Base    uint64 // PSS of the process before its first session
}
