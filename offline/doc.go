// Package offline keeps the queues: what is admitted for a device is durable here before its sender gets an ack, waits until the
// device has it, and is deleted then. design/delivery.md has the rules; this package is their state machine.
//
// # Two halves
//
// The fold (type state) is what the raft log says: queues, last ids of streams, pending receipts, tombstones. It reads no clock and
// no configuration: limits and cut-off stamps ride in the commands, so a changed configuration cannot change what a replay admits.
// The lead (type group) is soft state of the leader: attachments, windows, timers, receipts under way. It is rebuilt after each
// change of leadership, and nothing in it survives one.
//
// # One message
//
//	Receive -> inbox -> handleStore -> Propose ... Apply: admit -> Done: ack to the gateway -> push from the cursor
//	DeliveryAck -> window moves, push again -> ProposeLazy ... Apply: ack -> raise receipt -> Receipt to the sender's shard
//
// Live delivery is the tail of the drain: push, from the attachment's cursor, is the only way out of a queue.
//
// # What is where
//
// A queue holds sequences [head, next). Entries from memLo on are in memory; those below tabHi are in tables; what is in neither
// half does not exist. Message records (m) may be written ahead of the applied index F at any time; the run key (a) that goes with
// them lets the next Load delete what a crash left above F. All else is written with F in one batch: queue heads and raised marks (q),
// last ids (s), pending receipts (r), totals (x). An entry that is acked before either happens never reaches tables.
//
// # Threads
//
// Each queue/N group has one shard goroutine (package shard) that owns its state and its group; no lock is needed there. Links call
// Receive on their own goroutines, which sort envelopes into the groups' inboxes. What all goroutines share is in peers: gateways
// and leaders by name, copied on write. Metrics are atomic.
//
// # Files
//
//	offline.go  Config to daemon: New, Run, the link handler   config.go   configuration
//	groups.go   groups that are opened and closed              metrics.go  counters
//	peers.go    streams to gateways, leaders of groups
//	command.go  log entries: codec                             record.go   stored records, table keys
//	fold.go     state: Apply, admission                        queue.go    one queue: entries, raised marks
//	stream.go   last ids                                       pending.go  pending receipts
//	expire.go   expiry: the fold                               cache.go    writing ahead, eviction
//	flush.go    Load and Flush                                 hash.go     hash of the logical state
//	machine.go  group: shard.Machine                           inbound.go  envelopes in
//	answer.go   acks and refusals out                          attach.go   attachments, acks of deliveries
//	push.go     windows, push                                  asleep.go   attachments with nothing to do
//	resend.go   resends, unresponsive sessions                 receipt.go  receipts out and in
//	sweep.go    the leader's passes of expiry                  timers.go   due times
//	abroad.go   queues for accounts of other regions: the fold; drain.go: their leader's side
//	damage.go   what cannot be read or trusted stops the group
//	atrest.go   the fold alone, for data at rest
//	trim.go     buffers let go when little happens
package offline
