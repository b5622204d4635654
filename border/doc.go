// Package border is the daemon at the edge of a region: it carries messages, receipts and questions between this region's routers and
// offlines and the borders of other regions. It keeps nothing: what must not be lost is in a queue, or a pending receipt, on either side,
// and goes again when a border or the path ends.
//
// # Two endpoints
//
// Towards its own cluster a border is much like a gateway: it dials routers and offlines and hears from leaders who they are. Towards the
// world it is the only process that other regions reach, and the only one that looks at what they may say:
//
//	offline -> border (inner) -> border (outer) -> border (outer) -> border (inner) -> router -> offline
//	queue/N    this region                         the recipient's region              dir/N'    queue/N'
//
// A peer speaks for accounts of its own region and to accounts of this one, and nothing goes through a region to a third. Who a peer is
// says the authority that its certificate was verified with.
//
// # Calls
//
// What wants an answer is a call: a slot that remembers who asked, under which name, and where it went. Its number and generation are the
// name of the call on the next hop. A call ends with the answer, with the end of either stream, or in time; then the asker is told to
// come again. The table is bounded; a full one answers busy.
//
// # Threads
//
// Readers of links call Receive, Run sweeps once a second. All state is under one mutex, which nobody holds while waiting: sending to
// a link never blocks.
//
// # Files
//
//	config.go   Config: which regions there are
//	border.go   New, Run, what is reached, who leads
//	calls.go    the table of calls
//	inner.go    envelopes from this region, and answers to it
//	outer.go    envelopes from other regions: what they may say
//	metrics.go  counters
package border
