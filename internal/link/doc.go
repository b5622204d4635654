// Package link carries envelopes between daemons: over gRPC with mutual TLS between processes, and without a network between
// daemons of one process. Both ways share everything but the last step, so a test of one is a test of the other.
//
// # Model
//
// A daemon owns one Endpoint, which names it (Info) and its Handler. Two endpoints that meet get a Stream each, the two ends of
// one bidirectional, ordered connection; all shards travel on it. Envelopes are a stanza (or a few bytes) behind a routing header.
//
//	Send -> pending batches -> sender goroutine -> transport -> receive -> Handler.Receive -> Inbox -> owner -> Stream.Done
//	        (outbox.go)        (stream.go)         (pair.go, grpc.go)      (the daemon's)      (inbox.go)
//
// Send encodes into the open batch under the outbox's mutex and returns. The sender goroutine takes a batch as soon as it is free,
// so batches grow exactly while the transport is busy; a batch never holds more than 64 envelopes or 256 KiB. Within a process, a daemon
// that works in turns takes the sender goroutine's part itself: at the end of a turn Endpoint.Flush hands over what the turn sent
// (turn.go), which saves a switch of goroutines on every leg.
//
// # Credits
//
// The receiver grants bytes per (stream, group); Options.Credits is the grant at the start, told in the introduction. Send charges
// Envelope.Size and answers ErrNoCredit when it is spent; Stream.Done gives bytes back, and they travel in bulk when half of the
// grant has come together. So the pending batches, the network and the receiver's inbox together never hold more than one grant
// per group, and a stuck receiver costs nobody else anything. Four kinds are not charged: hello, of which a leader sends one per
// stream and term and which must arrive even on a spent stream (bounded by FreePending), the roster (one for each stream), the regions
// that a border reaches, and the grants themselves.
//
// # Roster
//
// Endpoints that share a Board tell every peer the newest roster that the process knows, when a stream comes up and when there is a
// newer one, from whomever it came. So it reaches everybody who is connected to anybody, and no other protocol looks for members.
//
// # Threads
//
// Send, Done and Inbox.Push are safe for concurrent use. For one stream Up, each Receive and Down happen one after the other, never
// at once, and Down after the last Receive; different streams of an endpoint call its Handler concurrently. Each stream has a
// sender goroutine; one over gRPC has a reader and a pulse besides. Handler methods must not block.
//
// # Liveness
//
// An end with nothing else to send sends an empty batch every Options.Pulse, and gives the stream up after three pulses of silence:
// within 10 s with the default. A Handler that blocks for as long loses its stream in the same way. gRPC's own keepalive is not
// used: its client refuses to ping more often than every 10 s, its server does not ping a client that sends, and neither notices a
// process that is stopped behind a living kernel.
//
// # Files
//
//	envelope.go  the header, its encoding, Size     reader.go   fields off the wire
//	kinds.go     kinds of envelopes, flags          intro.go    Info, roles, the first message, refusals
//	endpoint.go  Endpoint, Handler, Options         stream.go   Stream: Send, Done, receiving
//	outbox.go    pending batches, sender's credits  window.go   the receiver's credits
//	life.go      from Up to Down, pulse, flush      inbox.go    mailbox of a loop or shard goroutine
//	pair.go      Connect: endpoints of one process  grpc.go     codec, service, TLS checks
//	dial.go      Dial, backoff                      server.go   Server, admission of streams
//	metrics.go   counters                       usage.go    what streams hold, what Dial has up
//	turn.go      Flush: the end of a turn       faults.go   broken on purpose, for tests
//	board.go     Board: the roster, passed on
//	word.go      Word: Handler of who is told one thing
//	road.go      the way between endpoints, as a simulation has it
package link
