// Package simtest runs whole clusters in simulated time, from a seed: routers and offlines of three machines, each with raft groups of
// three replicas on a disk that forgets what was not synced, model gateways and model clients, and between all of them a network that
// delays, loses, cuts and slows down what passes. Each schedule is judged by internal/history, by what the directory says of what it
// has promised, and by the hashes of the replicas.
//
// # What is real and what is a model
//
// Real: router, offline, internal/shard with raft and Pebble, and link's streams, envelopes and credits. A model: the gateway, which
// keeps design/delivery.md's rules of routes, bindings and deliveries without sockets; the client, which keeps its own; the transport
// between replicas (shard.Mesh) and below streams (link.Road).
//
// # Time and chance
//
// A schedule runs in a testing/synctest bubble: time passes when nobody has anything to do, so that a minute costs some ten milliseconds.
// All that is drawn is drawn from the seed, for each purpose and each way of the network on its own. Go's scheduler and select decide
// the order of what happens at one moment of simulated time, and Run cannot: so a seed goes nearly the same way each time, not
// exactly. Messages never take a whole number of microseconds, so that few things happen at the same moment, and TestSchedules runs each
// schedule on one processor. A seed that fails is run again, and how often it failed is reported.
//
// # Threads
//
// What models is under World.mu, which is never held while time passes; a process belongs to whoever has its turn. Blocking on a mutex
// does not count as waiting in a bubble: who holds one must not sleep.
//
// # Files
//
//	run.go       Run: set-up, the time with faults, the end, the judgement    plan.go      what a seed makes happen
//	world.go     World: the parts and their streams, the trace                weather.go   the network
//	process.go   a router or offline: started, stopped, its power cut         gateway.go   model gateway
//	device.go    model client: connection, deliveries                         sending.go   its messages and queries
//	session.go   a connection between client and gateway
package simtest
