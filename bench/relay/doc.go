// Package relay measures a TURN relay from outside: allocations with a channel each, packets through them to echoing peers and back, and
// what the server's processes were charged for that. It knows nothing of the server but its address and its process, so that any relay
// can be measured by the same client.
//
// # Loads
//
// Each session is a client socket, an allocation, a channel and a peer socket of its own that sends back what it gets. With Rate 0 each
// session keeps Window packets under way (flat out); otherwise packets leave one by one, evenly in time, from one session after the other.
// An echo is two relayed packets, one in each direction. A direct run has the same sockets, connected to each other: what is
// left of a round trip without it is the relay's.
//
// # Threads
//
// One thread does everything, with a poller of its own and one system call per packet, so that the client costs the same whatever
// the server is.
//
// # Files
//
//	options.go  what can be asked for       run.go      a run and its result
//	stun.go     the messages of TURN        session.go  an allocation and its channel
//	client.go   an allocation for tests
//	engine_linux.go  packets, pacing        engine_other.go  there is none elsewhere yet
package relay
