// Package swarm is the client engine of the bench: very many sessions in few processes, for as little memory as a client can have.
//
// An Engine holds sessions of one process on one event loop: raw epoll or kqueue, one pointer-free slot per session in mapped memory
// (internal/slab), one wheel entry for its next ping; no goroutine, timer, buffer or heap object while a session is idle. A session
// that shakes hands, has traffic, or holds an unfinished frame has further memory for just that long. A Fleet drives engines in child
// processes, or on other machines through agents, as if they were one Engine.
//
// The sessions speak the protocol of docs/protocol.md by internal/wire and internal/stanza, with the rules of gateway/client for
// admission, windows, acks and reconnecting; a test holds the two against each other. What they do not have is what a person's device
// needs: nothing is durable here, and keys are no secrets (see Config.Seed), so the engine is for load and never for talk.
//
// # Checking
//
// Every message carries its number, so that loss, doubling and reordering are counted for each one, not sampled; see Traffic. Anything
// that ends a session is counted with its reason; see Counters.
//
// # Threads
//
// One goroutine, locked to its thread, is the loop: everything behind an Engine is its own. The methods of Engine post to it and
// wait; they are safe for concurrent use, as those of Fleet are. A Fleet has a goroutine for each engine's answers, and a child one for
// each order that it carries out.
//
// # Files
//
//	config.go    Config                          orders.go     what can be ordered, and what comes of it
//	engine.go    Engine: the front of the loop   fleet.go      Fleet: engines, ranges divided over them
//	loop.go      the loop, events, timers        command.go    the orders of a Fleet, merge.go their sums
//	session.go   the slot                        random.go     letters over a whole fleet
//	keys.go      handles and keys by number      serve.go      lines of JSON, the engine's end: `linecard bench swarm`
//	attempt.go   from connect to bound           remote.go     their other end: children and agents
//	ending.go    why it ended, when it is back   agent.go      engines for other machines: `linecard bench agent`
//	open.go      Open and Cut                    histogram.go  HDR histograms as JSON
//	inbound.go   frames, stanzas, acks           memory.go     what sessions take, pss_*.go by the kernel's account
//	outbound.go  what is said, in one write      poll_*.go     epoll, kqueue; socket*.go: sockets
//	traffic.go   an order for messages, flow.go its streams, arrival.go their other ends, payload.go the numbers in them
//	letters.go   single messages                 ping.go       pings on demand     tickets.go  the table of tickets
package swarm
