// Package shard runs the raft groups of a daemon process: it makes a deterministic state machine durable and replicated, and gives
// it one goroutine on which everything of its shard happens.
//
// # Layers
//
// A Host is one pair of Pebble databases: log (raft entries, terms, snapshot metadata; synced) and state (tables; without WAL,
// since the raft log is the WAL). All groups of the process append to the one log database and so share its fsyncs. A Group is one
// hashicorp/raft instance with a Machine. A command is packed with everything else pending, appended, committed, and applied by
// Machine.Apply; the machine keeps the result in memory and writes tables when asked to flush.
//
// # Threads
//
// Per group, besides raft's own goroutines (main, FSM, snapshots):
//
//   - the shard goroutine (Group.run) owns the machine, the pending packs and the leadership. It never waits for raft. It waits
//     for the state database: a flush, a table read.
//   - the submitter calls raft.Apply, which waits for raft's main goroutine, which may wait for the disk or the FSM.
//   - with peers, one that forwards what arrives from them to raft (watched).
//   - the waiter waits for raft's answers and reports those packs that were not committed.
//
// raft's FSM goroutine hands each batch of committed entries to the shard goroutine and waits until it is applied. So who waits for
// whom is: submitter -> raft main -> FSM -> shard goroutine -> nobody. Other goroutines reach the shard goroutine by Wake and Call.
//
// Per host there is the scrubber, which removes from the files what groups have deleted, one group after the other, by the clock
// alone. It waits for snapshots, flushes and compactions; nobody waits for it but a group or host that closes.
//
// Per process with replicas elsewhere there is the Network: one goroutine that accepts, one for each connection until it is identified, and
// then those of raft's transport, one for each accepted connection. Nothing of it is held while another goroutine waits but Network.mu,
// under which nothing waits.
//
// # Applied index and restart
//
// F is the index up to which the tables are complete; it is written, with the last stamp, in the last batch of each flush. Batches
// of the state database become durable in order, so after a crash the tables are those of some flush, plus records written ahead
// of the next, which Load ignores by their index. Open replays the log from the last raft snapshot on, skipping entries up to F.
// A raft snapshot at C flushes with F >= C and waits until Pebble flushed the state database before its metadata are written and
// the log is truncated. Databases that do not fit together (an empty log under a used node id, tables behind the snapshot or ahead
// of the log) refuse to open with ErrLost.
//
// # Several replicas
//
// A follower that needs entries which its leader has no more is sent the leader's tables, as they are at its F then (stream.go), and takes
// them in at once in place of its own (install.go); Machine.Load is called again. F may be ahead of its log then, up to where the leader
// was: entries up to there are skipped as at a start. A group of which nothing is here begins empty if HostConfig.Join is set, and Drop
// removes one that moved away (join.go, drop.go).
//
// # Leadership
//
// Each leadership begins with a lead pack. When it is applied here, everything of earlier terms is too, and Machine.Lead is called
// with the term of its entry. Stamps start at the highest in the log then.
//
// # Replicas
//
// Host.Want says which nodes shall vote. The leader of a group takes one step after the other towards that (plan.go), each when
// it is committed and the view is as the step needs it; any leader can go on where the last one ended. A read is answered after
// Verify only: it asks a majority, and counts answers to what was sent after the call (verify.go). There are no leases. A planned
// end hands leaderships over first (Host.HandOver).
//
// # Failure
//
// Damage of one group, a malformed entry or a record that its machine cannot read, stops that group (StopGroup): it follows, answers
// what is in flight with Unknown, applies nothing more, and its raft engine is shut down; the shard goroutine goes on, so that the
// machine can say that it does not lead. A database error that Pebble cannot recover from, such as a failed write of the WAL or a
// compaction that meets damage, stops the host: all groups end like that, and Host.Failed says why. The process is expected to exit.
//
// # Files
//
//	machine.go   Entry, Outcome, Machine: what a state machine implements
//	config.go    HostConfig
//	host.go      Host: databases, node id, failure, status
//	prescan.go   damage in the middle of WALs and manifests, found before Pebble cuts it off
//	damage.go    what cannot be trusted: StopGroup, reports
//	disk.go      free space: Disk, its floor; ballast.go, fallocate_*.go: the ballast file
//	hash.go      hashes of the replicated states, to compare replicas
//	reclaim.go   space given back while the disk is below its floor
//	storage.go   Pebble options, logger, directories, shared flushes
//	group.go     Group: Open, the methods of a group, Close
//	core.go      channels and raft instance of a group, checks at open
//	loop.go      shard goroutine: turns, apply, flush, snapshots
//	lead.go      leadership, sending packs, outcomes
//	verify.go    verified leadership; contacts.go: what peers have answered; watched.go: raft's transport on the way; ahead.go: requests
//	             from a leader that is behind what is here
//	plan.go      from the voters a group has to those it shall have: the next step
//	reconcile.go Host.Want: the steps taken; replicas.go: what the leader sees of the others
//	handover.go  leaderships handed over
//	proposal.go  queue of packs with their contexts
//	submit.go    submission and raft's answers
//	pack.go      format of a log entry
//	stamp.go     the leader's clock
//	fsm.go       raft's FSM: hands over to the shard goroutine; Persist
//	founder.go   who was its group's only voter may not become that again by a torn log
//	logstore.go, logread.go, stable.go, snapstore.go   raft's stores on Pebble
//	stream.go, receive.go   a group's state on its way to another replica
//	trail.go     how much log is kept for followers
//	install.go   a received state takes the place of the one that is here
//	join.go, drop.go   groups that come to this node, and leave it
//	tables.go    Tables, Batch
//	overlay.go, overlay_scan.go   Overlay: write-back map of small records; cleancache.go: what it read and flushed
//	scrub.go     when and how a group is scrubbed
//	wash.go      WALs turned over, deleted keys compacted away
//	checkpoint.go  copies of the databases while they are in use; reseat.go: a copy becomes a new node's
//	inspect.go, inspectlog.go  files, logs and states checked while nobody runs; scratch.go: without writing to them
//	transport.go              Network: what connects replicas in different processes
//	transport_header.go       how a connection begins: hello, welcome, refusals
//	transport_accept.go       the listener's side of it; transport_lobby.go: who is not identified yet; transport_dial.go: the dialler's
//	transport_twins.go        two with one id; removed.go: who was away
//	transport_conn.go         open connections, their timeouts, two processes with one node id
//	transport_group.go        raft's transport of one group on top
//	transport_pipeline.go     its pipelines, whose answers are always taken
//	transport_status.go       questions about replicas
//	transport_log.go          what operators see of all this
//	mesh.go      Mesh: the network between replicas, as a simulation has it
//	metrics.go, hclog.go
package shard
